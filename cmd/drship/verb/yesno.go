package verb

import (
	"fmt"

	"github.com/spf13/pflag"
)

// yesNo adds a boolean option that takes DRBD's words as well: --force, --force=yes, --reset-bitmap=no. The daemon reads the option
// from a Request, so nobody needs the variable.
func yesNo(fs *pflag.FlagSet, name, short string, otherwise bool, usage string) {
	v := yesNoValue(otherwise)
	fs.VarPF(&v, name, short, usage).NoOptDefVal = "true"
}

type yesNoValue bool

// Set implements pflag.Value.
func (v *yesNoValue) Set(s string) error {
	switch s {
	case "yes", "true", "1":
		*v = true
	case "no", "false", "0":
		*v = false
	default:
		return fmt.Errorf("want yes or no, got %q", s)
	}
	return nil
}

// String implements pflag.Value in the words that pflag knows, so that help shows the option as a plain switch.
func (v *yesNoValue) String() string {
	if *v {
		return "true"
	}
	return "false"
}

// Type implements pflag.Value.
func (v *yesNoValue) Type() string { return "bool" }
