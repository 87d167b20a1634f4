package verb

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"drship/internal/config"
)

// fact is something that a script asks of drbdadm: of a volume of this host, of a resource, or of nothing in particular. It needs neither daemon nor disk.
type fact struct {
	name        string
	whole       func(ctx context.Context, a *adm) (string, error)
	perResource func(a *adm, r *config.Resource, h *config.Host) (string, error)
	perVolume   func(r *config.Resource, h *config.Host, v *config.Volume) string
	oneVolume   bool // names a single volume, or a resource with one
}

func admFacts() []fact {
	return []fact{
		{name: "sh-nop", whole: func(context.Context, *adm) (string, error) { return "", nil }},
		{name: "sh-resources", whole: func(_ context.Context, a *adm) (string, error) {
			var names []string
			for _, r := range a.local() {
				if r.Stacked == a.stacked {
					names = append(names, r.Name)
				}
			}
			if names == nil {
				return "", nil
			}
			return strings.Join(names, " ") + "\n", nil
		}},
		{name: "sh-resource", perResource: func(_ *adm, r *config.Resource, _ *config.Host) (string, error) { return r.Name, nil }},
		{name: "sh-mod-parms", whole: func(_ context.Context, a *adm) (string, error) {
			return fmt.Sprintf("minor_count=%d\n", a.config.Global.MinorCount), nil
		}},
		{name: "sh-dev", perVolume: func(_ *config.Resource, _ *config.Host, v *config.Volume) string {
			return fmt.Sprintf("/dev/drbd%d", v.Minor)
		}},
		{name: "sh-udev", oneVolume: true, perVolume: udev},
		{name: "sh-minor", perVolume: func(_ *config.Resource, _ *config.Host, v *config.Volume) string { return fmt.Sprint(v.Minor) }},
		{name: "sh-ll-dev", perVolume: func(_ *config.Resource, _ *config.Host, v *config.Volume) string { return v.Disk }},
		{name: "sh-md-dev", perVolume: func(_ *config.Resource, _ *config.Host, v *config.Volume) string {
			if v.MetaDisk == "" || v.MetaDisk == "internal" {
				return v.Disk
			}
			return v.MetaDisk
		}},
		{name: "sh-md-idx", perVolume: func(_ *config.Resource, _ *config.Host, v *config.Volume) string {
			switch {
			case v.MetaDisk == "" || v.MetaDisk == "internal":
				return "internal"
			case v.MetaIndex >= 0:
				return fmt.Sprint(v.MetaIndex)
			}
			return "flexible"
		}},
		{name: "sh-ip", perResource: shIP},
		{name: "sh-lr-of", perResource: func(a *adm, _ *config.Resource, h *config.Host) (string, error) {
			if h.Lower == "" {
				return "", a.usage("sh-lower-resource only available in stacked mode")
			}
			return h.Lower, nil
		}},
		// DRBD 8.3 and 8.4 let an init script promote by become-primary-on; here the daemon does so itself when it starts.
		{name: "sh-b-pri", perResource: func(*adm, *config.Resource, *config.Host) (string, error) { return "", nil }},
		{name: "sh-status", whole: shStatus},
		{name: "sh-list-config-file", whole: func(_ context.Context, a *adm) (string, error) { return strings.Join(a.config.Files, "\n") + "\n", nil }},
		{name: "sh-list-adjustable", whole: shAdjustable},
	}
}

// udev is what DRBD's udev rule evaluates.
func udev(r *config.Resource, h *config.Host, v *config.Volume) string {
	name := r.Name
	if len(h.Volumes) > 1 {
		name = fmt.Sprintf("%s/%d", r.Name, v.Number)
	}
	device := fmt.Sprintf("drbd%d", v.Minor)
	if strings.HasPrefix(v.Device, "/dev/") {
		device = strings.TrimPrefix(v.Device, "/dev/")
	}
	return fmt.Sprintf("RESOURCE=%s\nDEVICE=%s\nDISK=%s", name, device, strings.TrimPrefix(v.Disk, "/dev/"))
}

// shIP is the address that the resource listens on, towards the peer of --peer where that makes a difference.
func shIP(a *adm, r *config.Resource, h *config.Host) (string, error) {
	for _, p := range r.Peers(a.node.Node) {
		if a.peer == "" || slices.Contains(p.Host.Names, a.peer) {
			return p.Local.Host, nil
		}
	}
	return h.Address.Host, nil
}

// shAdjustable lists the resources that adjust would do something for: those that run otherwise than the configuration says.
func shAdjustable(ctx context.Context, a *adm) (string, error) {
	var b strings.Builder
	for _, r := range a.local() {
		lines, err := a.adjustCalls(ctx, r, target{resource: r.Name, volume: -1})
		if err != nil {
			return "", err
		}
		if len(lines) > 0 {
			b.WriteString(r.Name + "\n")
		}
	}
	return b.String(), nil
}

func (a *adm) printFact(ctx context.Context, f *fact) error {
	text, err := a.factText(ctx, f)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(a.deps.Stdout, text); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}

func (a *adm) factText(ctx context.Context, f *fact) (string, error) {
	if f.whole != nil {
		if len(a.names) > 0 {
			fmt.Fprintln(a.deps.Stderr, "This command will ignore resource names!")
		}
		return f.whole(ctx, a)
	}
	targets, err := a.targets()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, t := range targets {
		r := a.config.Resource(t.resource)
		h, err := r.Local(a.node.Node)
		if err != nil {
			return "", err
		}
		if f.perResource != nil {
			text, err := f.perResource(a, r, h)
			if err != nil {
				return "", err
			}
			if text != "" {
				fmt.Fprintln(&b, text)
			}
			continue
		}
		if f.oneVolume && t.volume < 0 && (len(h.Volumes) > 1 || slices.Contains(a.names, "all")) {
			return "", a.usage("volume not specified")
		}
		for _, v := range h.Volumes {
			if t.volume < 0 || t.volume == int(v.Number) {
				fmt.Fprintln(&b, f.perVolume(r, h, v))
			}
		}
	}
	return b.String(), nil
}

// absolute is a configuration file's name as DRBD prints it.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}
