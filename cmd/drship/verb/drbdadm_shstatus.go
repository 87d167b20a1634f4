package verb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/face"
)

// shStatus is drbdadm sh-status: shell variables for every volume of this host, each set followed by a call of _sh_status_process. It tells of
// resources that are down too, so it needs no daemon.
func shStatus(ctx context.Context, a *adm) (string, error) {
	run := &app{deps: a.deps, node: a.node}
	defer run.close()
	up, err := run.snapshot(ctx, nil)
	if err != nil && !control.NoDaemon(err) {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "_drbd_version=9.22.0\n_drbd_api=1\n_config_file=%s\n\n\n", shellWord(absolute(a.node.ConfigFile)))
	for _, r := range a.local() {
		if r.Stacked != a.stacked {
			continue
		}
		h, err := r.Local(a.node.Node)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "_conf_res_name=%s\n_conf_file_line=%s:%d\n\n", shellWord(r.Name), shellWord(absolute(r.Pos.File)), r.Pos.Line)
		running := slices.IndexFunc(up, func(s face.Resource) bool { return s.Name == r.Name })
		for _, v := range h.Volumes {
			b.WriteString(a.stackedOn(h, v))
			fmt.Fprintf(&b, "_conf_volume=%d\n", v.Number)
			if running < 0 {
				b.WriteString(face.ShStatusDown(v.Minor, r.Name, v.Number))
				continue
			}
			b.WriteString(face.ShStatus(&up[running], v.Number))
		}
	}
	return b.String(), nil
}

// stackedOn names the lower resource and device of a volume of a stacked one.
func (a *adm) stackedOn(h *config.Host, v *config.Volume) string {
	if h.Lower == "" {
		return "_stacked_on=\n_stacked_on_device=\n_stacked_on_minor=\n"
	}
	text := "_stacked_on=" + shellWord(h.Lower) + "\n"
	if lower := a.config.Resource(h.Lower); lower != nil {
		if lh, err := lower.Local(a.node.Node); err == nil {
			for _, lv := range lh.Volumes {
				if lv.Number == v.Number {
					return text + fmt.Sprintf("_stacked_on_device=%s\n_stacked_on_minor=%d\n", shellWord(lv.Device), lv.Minor)
				}
			}
		}
	}
	return text + "_stacked_on_device=\n_stacked_on_minor=\n"
}

// shellWord makes a word safe for the shell that evaluates it.
func shellWord(s string) string {
	var b strings.Builder
	for _, c := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:+", c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// setupShStatus is drbdsetup sh-status: of one minor, or of all that are up.
func (c *compat) setupShStatus(ctx context.Context, words []string) error {
	run := &app{deps: c.deps, node: c.node}
	defer run.close()
	up, err := run.snapshot(ctx, nil)
	if err != nil {
		return err
	}
	found := false
	for i := range up {
		for _, v := range up[i].Volumes {
			minor := fmt.Sprint(v.Minor)
			if len(words) > 0 && words[0] != minor && words[0] != "/dev/drbd"+minor && words[0] != up[i].Name && words[0] != control.All {
				continue
			}
			found = true
			if err := c.print(face.ShStatus(&up[i], v.Number)); err != nil {
				return err
			}
		}
	}
	if !found && len(words) > 0 && words[0] != control.All {
		_, err := c.unknownMinor(words[0])
		return err
	}
	return nil
}
