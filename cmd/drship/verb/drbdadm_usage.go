package verb

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"drship/internal/config"
)

const generalOptions = `GENERAL OPTIONS:
  --stacked, -S
  --dry-run, -d
  --verbose, -v
  --config-file=..., -c ...
  --config-to-test=..., -t ...
  --drbdsetup=..., -s ...
  --drbdmeta=..., -m ...
  --drbd-proxy-ctl=..., -p ...
  --sh-varname=..., -n ...
  --peer=..., -P ...
  --version, -V
  --setup-option=..., -W ...
  --help, -h
`

// usageText is drbdadm's help, for one command or for all of them; remark ends it.
func usageText(command *admCommand, remark string) string {
	var b strings.Builder
	name := "COMMAND"
	if command != nil {
		name = command.name
	}
	fmt.Fprintf(&b, "\nUSAGE: drbdadm %s [OPTION...] {all|RESOURCE...}\n\n%s", name, generalOptions)
	if command == nil {
		b.WriteString("\nCOMMANDS:\n")
		columns(&b, append(namesFor(forUsers), "hidden-commands"))
	} else if options := optionsOf(command); len(options) > 0 {
		fmt.Fprintf(&b, "\nOPTIONS FOR %s:\n", command.name)
		for _, o := range options {
			fmt.Fprintf(&b, "  --%s\n", o)
		}
	}
	fmt.Fprintf(&b, "\nVersion: 9.22.0 (api:1)\n%s\n", buildLine())
	if remark != "" {
		fmt.Fprintf(&b, "\n%s\n", remark)
	}
	return b.String()
}

// buildLine says what program answers in DRBD's place.
func buildLine() string {
	v := buildVersion()
	return fmt.Sprintf("GIT-hash: %s build by drship %s", v.commit, v.version)
}

// sectionsOf are the sections of the configuration whose options a command takes.
var sectionsOf = map[string]string{"connect": "net", "net-options": "net", "new-peer": "net", "attach": "disk", "disk-options": "disk", "peer-device-options": "disk",
	"resource-options": "options", "new-resource": "options"}

// ownOptions are the further options of commands, as drbdadm's help has them.
var ownOptions = map[string][]string{
	"primary": {"force[=...]"}, "secondary": {"force[=...]"}, "connect": {"tentative[=...]", "discard-my-data[=...]"}, "disconnect": {"force[=...]"}, "detach": {"force[=...]"},
	"invalidate": {"reset-bitmap=..."}, "invalidate-remote": {"reset-bitmap=..."}, "verify": {"start=...", "stop=..."},
	"resize": {"size=...", "assume-peer-has-space[=...]", "assume-clean[=...]", "al-stripes=...", "al-stripe-size-kB=..."}, "new-current-uuid": {"clear-bitmap[=...]"},
	"wait-connect": {"wfc-timeout=...", "degr-wfc-timeout=...", "outdated-wfc-timeout=...", "wait-after-sb[=...]"},
	"wait-sync":    {"wfc-timeout=...", "degr-wfc-timeout=...", "outdated-wfc-timeout=...", "wait-after-sb[=...]"},
	"net-options":  {"set-defaults"}, "disk-options": {"set-defaults"}, "resource-options": {"set-defaults"}, "peer-device-options": {"set-defaults"},
	"create-md": {"force", "adopt", "max-peers=..."}, "wipe-md": {"force"},
}

func optionsOf(c *admCommand) []string {
	out := slices.Clone(ownOptions[c.name])
	section, ok := sectionsOf[c.name]
	if !ok {
		return out
	}
	for _, o := range config.SectionOptions(section) {
		text := o.Name + "=..."
		if o.Kind == config.Bool {
			text = o.Name + "[=...]"
		}
		out = append(out, text)
	}
	return out
}

// printHelp prints the help of one command, or of all.
func (a *adm) printHelp() error {
	of := a.command
	if of == "help" || of == "" {
		of = ""
		if len(a.names) > 0 {
			of = a.names[0]
		}
	}
	if of == "hidden-commands" {
		return a.printHidden()
	}
	return a.print(usageText(findCommand(of), ""))
}

func (a *adm) printHidden() error {
	var b strings.Builder
	b.WriteString("\nThese additional commands might be useful for writing\nnifty shell scripts around drbdadm:\n\n")
	columns(&b, namesFor(forScripts))
	b.WriteString("\nThese commands are used by the kernel part of DRBD to\ninvoke user mode helper programs:\n\n")
	columns(&b, namesFor(forKernel))
	b.WriteString("\nThese commands ought to be used by experts and developers:\n\n")
	columns(&b, namesFor(forExperts))
	b.WriteByte('\n')
	return a.print(b.String())
}

func (c *compat) print(text string) error {
	if _, err := io.WriteString(c.deps.Stdout, text); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func namesFor(who audience) []string {
	var names []string
	for _, c := range admTable() {
		if c.audience == who {
			names = append(names, c.name)
		}
	}
	return names
}

// columns prints names two a line, as drbdadm does.
func columns(b *strings.Builder, names []string) {
	for i, name := range names {
		format := " %-35s"
		if i%2 == 1 {
			format = "%-35s"
		}
		fmt.Fprintf(b, format, name)
		if i%2 == 1 || i == len(names)-1 {
			b.WriteByte('\n')
		}
	}
}

// printVersion is read by scripts that evaluate it as shell variables.
func (a *adm) printVersion() error {
	v := buildVersion()
	return a.print(fmt.Sprintf("DRBDADM_BUILDTAG=GIT-hash:\\ %s\\ build\\ by\\ drship\nDRBDADM_API_VERSION=1\nDRBD_KERNEL_VERSION_CODE=0x08040b\nDRBD_KERNEL_VERSION=8.4.11\n"+
		"DRBDADM_VERSION_CODE=0x091600\nDRBDADM_VERSION=9.22.0\n", strings.ReplaceAll(v.commit, " ", "\\ ")))
}
