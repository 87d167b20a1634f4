package verb

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sector is the unit of DRBD's plain numbers for positions on a disk, in bytes.
const sector = 512

// sizeValue is an option with a number of bytes. It travels as a decimal number of bytes.
type sizeValue struct {
	bytes int64
	unit  int64 // what a plain number counts, in bytes
}

func newSize(unit int64) *sizeValue { return &sizeValue{unit: unit} }

var sizeSuffixes = map[byte]int64{'s': sector, 'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30, 't': 1 << 40, 'p': 1 << 50}

// Set implements pflag.Value.
func (v *sizeValue) Set(s string) error {
	digits, unit := s, v.unit
	if s != "" {
		if u, ok := sizeSuffixes[strings.ToLower(s)[len(s)-1]]; ok {
			digits, unit = s[:len(s)-1], u
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("want a number, with a suffix s (sectors), K, M, G or T if you like; got %q", s)
	}
	v.bytes = n * unit
	return nil
}

// String implements pflag.Value.
func (v *sizeValue) String() string { return strconv.FormatInt(v.bytes, 10) }

// Type implements pflag.Value.
func (v *sizeValue) Type() string { return "size" }
