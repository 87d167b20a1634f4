package config

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// scaleBytes is what one unit of a scale is worth: '1' one, 's' a sector of 512 bytes, 'k' 1024.
func scaleBytes(scale byte) int64 {
	switch scale {
	case 's':
		return 512
	case 'k':
		return 1024
	}
	return 1
}

// parseNumber reads DRBD's numbers: decimal digits and a suffix s (sectors of 512), k, m, g, t (powers of 1024) in
// either case. A bare number is in the option's own scale ('1', 's' or 'k'); the result is in that scale too,
// rounded down as DRBD does.
func parseNumber(s string, scale byte) (int64, error) {
	end := len(s)
	var unit uint64
	if end > 0 {
		switch s[end-1] {
		case 's', 'S':
			unit = 512
		case 'k', 'K':
			unit = 1 << 10
		case 'm', 'M':
			unit = 1 << 20
		case 'g', 'G':
			unit = 1 << 30
		case 't', 'T':
			unit = 1 << 40
		}
	}
	own := uint64(scaleBytes(scale))
	if unit == 0 {
		unit = own
	} else {
		end--
	}
	digits, negative := strings.CutPrefix(s[:end], "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, &numberError{value: s}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	hi, lo := bits.Mul64(n, unit)
	switch {
	case err != nil || hi != 0 || lo/own > 1<<62:
		return 0, &numberError{value: s, outside: true, as: math.MaxUint64}
	case negative:
		return 0, &numberError{value: s, outside: true, as: -(lo / own)}
	}
	return int64(lo / own), nil
}

// numberError is a value that is no number, or one outside of all ranges.
type numberError struct {
	value   string
	outside bool
	as      uint64 // outside: what DRBD takes it for
}

func (e *numberError) Error() string {
	switch {
	case !e.outside:
		return fmt.Sprintf("'%s' is not a number (digits, then nothing or one of s K M G T)", e.value)
	case e.as == math.MaxUint64:
		return fmt.Sprintf("'%s' is too large", e.value)
	}
	return fmt.Sprintf("'%s' is negative", e.value)
}

// errBool is a value that is neither yes nor no.
var errBool = errors.New("is neither yes nor no")

// parseBool reads yes/no in the spellings that DRBD takes.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "yes", "true", "on", "1":
		return true, nil
	case "no", "false", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("'%s' %w", s, errBool)
}
