package verb

import (
	"fmt"
	"io"
	"strings"

	"drship/internal/config"
)

const admUsage = `
USAGE: drbdadm COMMAND [OPTION...] {all|RESOURCE...}

GENERAL OPTIONS:
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

COMMANDS:
`

// printUsage shows what drbdadm shows, with the commands that are understood here.
func (a *adm) printUsage() error {
	var b strings.Builder
	b.WriteString(admUsage)
	columns(&b, admNames(false))
	fmt.Fprintf(&b, "\nVersion: drship %s\n", buildVersion().version)
	_, err := io.WriteString(a.deps.Stdout, b.String())
	return err
}

func (a *adm) printHidden() error {
	var b strings.Builder
	b.WriteString("\nThese additional commands might be useful for writing\nnifty shell scripts around drbdadm:\n\n")
	columns(&b, admNames(true))
	_, err := io.WriteString(a.deps.Stdout, b.String())
	return err
}

// columns prints names two a line, as drbdadm does.
func columns(b *strings.Builder, names []string) {
	for i, name := range names {
		fmt.Fprintf(b, " %-35s", name)
		if i%2 == 1 || i == len(names)-1 {
			b.WriteByte('\n')
		}
	}
}

// printVersion is read by scripts that evaluate it as shell variables.
func (a *adm) printVersion() error {
	v := buildVersion()
	_, err := fmt.Fprintf(a.deps.Stdout, "DRBDADM_BUILDTAG=GIT-hash:\\ %s\\ build\\ by\\ drship\nDRBDADM_API_VERSION=1\nDRBD_KERNEL_VERSION_CODE=0x08040b\nDRBD_KERNEL_VERSION=8.4.11\n"+
		"DRBDADM_VERSION_CODE=0x091600\nDRBDADM_VERSION=9.22.0\n", strings.ReplaceAll(v.commit, " ", "\\ "))
	return err
}

// fact is something that a script asks of a volume of this host, or, with perResource, of a resource.
type fact struct {
	whole       func(a *adm) string // asked of no resource in particular
	perResource func(a *adm, r *config.Resource, h *config.Host) string
	perVolume   func(v *config.Volume) string
}

// admFacts are drbdadm's sh- commands. They need neither daemon nor disk.
var admFacts = map[string]fact{
	"sh-nop": {whole: func(*adm) string { return "" }},
	"sh-resources": {whole: func(a *adm) string {
		var names []string
		for _, r := range a.local() {
			names = append(names, r.Name)
		}
		return strings.Join(names, " ") + "\n"
	}},
	"sh-resource":  {perResource: func(_ *adm, r *config.Resource, _ *config.Host) string { return r.Name }},
	"sh-mod-parms": {whole: func(a *adm) string { return fmt.Sprintf("minor_count=%d\n", a.config.Global.MinorCount) }},
	"sh-dev":       {perVolume: func(v *config.Volume) string { return v.Device }},
	"sh-udev":      {perVolume: func(v *config.Volume) string { return fmt.Sprintf("DEVICE=drbd%d", v.Minor) }},
	"sh-minor":     {perVolume: func(v *config.Volume) string { return fmt.Sprint(v.Minor) }},
	"sh-ll-dev":    {perVolume: func(v *config.Volume) string { return v.Disk }},
	"sh-md-dev":    {perVolume: func(v *config.Volume) string { dev, _, _ := strings.Cut(metaDisk(v), " "); return dev }},
	"sh-md-idx":    {perVolume: func(v *config.Volume) string { _, slot, _ := strings.Cut(metaDisk(v), " "); return slot }},
	"sh-ip":        {perResource: func(_ *adm, _ *config.Resource, h *config.Host) string { return h.Address.Host }},
	"sh-lr-of":     {perResource: func(_ *adm, _ *config.Resource, h *config.Host) string { return h.Lower }},
}

func (a *adm) printFacts(f fact) error {
	var b strings.Builder
	if f.whole != nil {
		b.WriteString(f.whole(a))
		_, err := io.WriteString(a.deps.Stdout, b.String())
		return err
	}
	targets, err := a.targets()
	if err != nil {
		return err
	}
	for _, t := range targets {
		r := a.config.Resource(t.resource)
		h, err := r.Local(a.node.Node)
		if err != nil {
			return err
		}
		if f.perResource != nil {
			fmt.Fprintln(&b, f.perResource(a, r, h))
			continue
		}
		for _, v := range h.Volumes {
			if t.volume < 0 || t.volume == int(v.Number) {
				fmt.Fprintln(&b, f.perVolume(v))
			}
		}
	}
	_, err = io.WriteString(a.deps.Stdout, b.String())
	return err
}
