package emu

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Settings names what Set takes, for help texts.
const Settings = "rtt=50ms delay=25ms jitter=2ms rate=100M queue=1M loss=1% burst=8 ge=0.2%,12%,0,100% " +
	"reorder=1% reorder-by=5ms duplicate=1% corrupt=0.1% forge=yes"

// Set changes one parameter by name, as in "rate=100M" or "loss=1%". It checks nothing but the form: see Check.
func (p *Params) Set(setting string) error {
	name, value, found := strings.Cut(setting, "=")
	if !found {
		return fmt.Errorf("%q is no setting; they look like %s", setting, Settings)
	}
	var err error
	switch name {
	case "rtt":
		p.Delay, err = time.ParseDuration(value)
		p.Delay /= 2
	case "delay":
		p.Delay, err = time.ParseDuration(value)
	case "jitter":
		p.Jitter, err = time.ParseDuration(value)
	case "reorder-by":
		p.ReorderBy, err = time.ParseDuration(value)
	case "rate":
		p.Rate, err = ParseQuantity(value)
	case "queue":
		p.Queue, err = ParseQuantity(value)
	case "loss":
		p.Loss, err = ParseShare(value)
	case "reorder":
		p.Reorder, err = ParseShare(value)
	case "duplicate":
		p.Duplicate, err = ParseShare(value)
	case "corrupt":
		p.Corrupt, err = ParseShare(value)
	case "burst":
		p.Burst, err = strconv.ParseFloat(value, 64)
	case "forge":
		p.Forge, err = parseYes(value)
	case "ge":
		p.Gilbert, err = parseGilbert(value)
	default:
		return fmt.Errorf("there is no setting %q; they are %s", name, Settings)
	}
	if err != nil {
		return fmt.Errorf("setting %s: %w", setting, err)
	}
	return nil
}

// SetAll changes several parameters, separated by spaces, and checks the whole. On an error nothing is changed.
func (p *Params) SetAll(settings string) error {
	next := *p
	for _, s := range strings.Fields(settings) {
		if err := next.Set(s); err != nil {
			return err
		}
	}
	if err := next.Check(); err != nil {
		return err
	}
	*p = next
	return nil
}

// ParseQuantity reads a number with a decimal suffix: 100M is 100,000,000. "none" and "0" are 0.
func ParseQuantity(text string) (int64, error) {
	if text == "none" {
		return 0, nil
	}
	unit := 1.0
	number := text
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kKmMgG", text[n-1]); i >= 0 {
			unit, number = math.Pow(1000, float64(i/2+1)), text[:n-1]
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0 && v*unit <= math.MaxInt64/2) {
		return 0, fmt.Errorf("%q is no quantity like 500k, 100M or 1G", text)
	}
	return int64(v * unit), nil
}

// ParseShare reads 1% or 0.01.
func ParseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no share like 1%% or 0.01", text)
	}
	if percent {
		v /= 100
	}
	return v, nil
}

func parseYes(text string) (bool, error) {
	switch text {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither yes nor no", text)
}

func parseGilbert(text string) (Gilbert, error) {
	var share [4]float64
	parts := strings.Split(text, ",")
	if len(parts) != len(share) {
		return Gilbert{}, fmt.Errorf("%q is not enter,leave,loss-good,loss-bad", text)
	}
	for i, part := range parts {
		v, err := ParseShare(part)
		if err != nil {
			return Gilbert{}, err
		}
		share[i] = v
	}
	return Gilbert{Enter: share[0], Leave: share[1], LossGood: share[2], LossBad: share[3]}, nil
}

// String tells the line in a few words, for tables and logs.
func (p *Params) String() string {
	var b strings.Builder
	if p.Rate > 0 {
		fmt.Fprintf(&b, "%s, ", RateText(p.Rate))
	} else {
		b.WriteString("no rate limit, ")
	}
	fmt.Fprintf(&b, "%v one way", p.Delay)
	if p.Jitter > 0 {
		fmt.Fprintf(&b, " ± %v", p.Jitter)
	}
	if p.Rate > 0 {
		fmt.Fprintf(&b, ", queue %.0f kB", float64(p.Room())/1e3)
	}
	switch g := p.Gilbert; {
	case g.Enter > 0:
		fmt.Fprintf(&b, ", Gilbert-Elliott %v/%v/%v/%v", g.Enter, g.Leave, g.LossGood, g.LossBad)
	case p.Burst > 1:
		fmt.Fprintf(&b, ", %s lost in bursts of %v", ShareText(p.Loss), p.Burst)
	default:
		fmt.Fprintf(&b, ", %s lost", ShareText(p.Loss))
	}
	for _, s := range []struct {
		name  string
		share float64
	}{{"reordered", p.Reorder}, {"duplicated", p.Duplicate}, {"corrupted", p.Corrupt}} {
		if s.share > 0 {
			fmt.Fprintf(&b, ", %s %s", ShareText(s.share), s.name)
		}
	}
	return b.String()
}

// RateText is a rate in bits a second as people write it.
func RateText(bits int64) string {
	switch {
	case bits >= 1e9:
		return strconv.FormatFloat(float64(bits)/1e9, 'g', 4, 64) + " Gbit/s"
	case bits >= 1e6:
		return strconv.FormatFloat(float64(bits)/1e6, 'g', 4, 64) + " Mbit/s"
	}
	return strconv.FormatFloat(float64(bits)/1e3, 'g', 4, 64) + " kbit/s"
}

// ShareText is a share in percent.
func ShareText(share float64) string {
	return strconv.FormatFloat(share*100, 'g', 4, 64) + " %"
}
