package verb

import (
	"fmt"
	"strconv"
	"time"
)

// secondsValue is an option with a time: a plain number counts seconds, as in DRBD, and Go's way (90s, 5m) is understood too.
type secondsValue time.Duration

// maxWait bounds it, so that no sum of it overflows.
const maxWait = 365 * 24 * time.Hour

// Set implements pflag.Value.
func (v *secondsValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if n, nerr := strconv.ParseUint(s, 10, 32); nerr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxWait {
		return fmt.Errorf("want seconds, or a time like 90s or 5m; got %q", s)
	}
	*v = secondsValue(d)
	return nil
}

// String implements pflag.Value.
func (v *secondsValue) String() string {
	return strconv.FormatInt(int64(time.Duration(*v)/time.Second), 10)
}

// Type implements pflag.Value.
func (v *secondsValue) Type() string { return "seconds" }
