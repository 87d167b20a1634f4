package verb

import (
	"strings"

	"drship/internal/config"
)

// backendOptions maps the options of drbdsetup and drbdmeta, of every generation, to ours; an empty name is accepted and has no meaning here.
var backendOptions = map[string]string{
	"--overwrite-data-of-peer": "--force", "-o": "--force", "--do-what-I-say": "--force", "--force": "--force", "-f": "--force",
	"--discard-my-data": "--discard-my-data", "-D": "--discard-my-data", "--tentative": "--tentative", "--clear-bitmap": "--clear-bitmap", "-c": "--clear-bitmap",
	"--reset-bitmap": "--reset-bitmap", "--start": "--start", "--stop": "--stop", "--wfc-timeout": "--timeout", "-t": "--timeout",
	"--degr-wfc-timeout": "", "-d": "", "--outdated-wfc-timeout": "", "--wait-after-sb": "--wait-after-sb", "-w": "--wait-after-sb",
	"--adopt": "--adopt", "--gi": "--gi", "--max-peers": "", "--peer-max-bio-size": "", "--al-stripes": "", "--al-stripe-size-kB": "",
	"--resync-rate": "--resync-rate", "--assume-clean": "--assume-clean", "--assume-peer-has-space": "", "--set-defaults": "--set-defaults",
	"--size": "--size", "--verbose": "--verbose", "--statistics": "--statistics", "--json": "--json", "--now": "--now", "--timestamps": "--timestamps",
	"--poll": "--poll", "--full": "--full", "--diff": "--diff", "--color": "", "--show-defaults": "--show-defaults",
	"--diskless": "", "--bdev-freeze": "", "--alternate-address": "", "--alternate-peer-address": "",
}

// withValue are the backend options that take a value as the next argument.
var withValue = map[string]bool{"--start": true, "--stop": true, "--size": true, "--wfc-timeout": true, "-t": true, "--degr-wfc-timeout": true, "-d": true,
	"--outdated-wfc-timeout": true, "--gi": true, "--resync-rate": true, "--max-peers": true, "--peer-max-bio-size": true, "--al-stripes": true, "--al-stripe-size-kB": true,
	"--alternate-address": true, "--alternate-peer-address": true}

// backendOption takes an option that drbdadm hands down, or that drbdsetup is given: one of its own, or an option of the configuration.
func (c *compat) backendOption(arg, next string) (used int, err error) {
	name, value, joined := strings.Cut(arg, "=")
	ours, known := backendOptions[name]
	needs := withValue[name]
	if !known {
		o, found := configOption(strings.TrimPrefix(name, "--"))
		if !found || !strings.HasPrefix(name, "--") {
			return 0, c.unrecognized(arg)
		}
		ours, needs = name, o.Kind != config.Bool
	}
	used = 1
	if needs && !joined {
		if next == "" {
			return 0, c.usage("%s: option '%s' requires an argument\ntry '%s help'", c.program, name, c.program)
		}
		value, joined, used = next, true, 2
	}
	if ours == "" {
		return used, nil
	}
	if joined {
		ours += "=" + value
	}
	c.options = append(c.options, ours)
	return used, nil
}

func (c *compat) unrecognized(arg string) error {
	if !strings.HasPrefix(arg, "--") {
		return c.usage("%s: invalid option -- '%s'\ntry '%s help'", c.program, strings.TrimPrefix(arg, "-")[:1], c.program)
	}
	return c.usage("%s: unrecognized option '%s'\ntry '%s help'", c.program, arg, c.program)
}

// configOption finds an option that a lower program takes from the sections of the configuration.
func configOption(name string) (config.Option, bool) {
	for _, section := range []string{"net", "disk", "options"} {
		if o, ok := config.FindOption(section, name); ok {
			return o, true
		}
	}
	return config.Option{}, false
}
