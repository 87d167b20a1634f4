package verb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/state"
)

// runDrbdsetup answers for drbdsetup: COMMAND OBJECT…, and OBJECT COMMAND as 8.3 had it. An object is a resource, a minor, a device or all.
func runDrbdsetup(ctx context.Context, d Deps) int {
	c := newCompat("drbdsetup", d, exitHard)
	words, help, err := c.setupWords(d.Args[1:])
	switch {
	case err != nil:
		return c.report(err)
	case help:
		return c.report(c.setupHelp(words))
	case len(words) == 0:
		return c.report(c.usage("%s", setupUsage()))
	}
	if words[0] == "sh-status" {
		return c.report(c.setupShStatus(ctx, words[1:]))
	}
	lines, err := c.setupLines(words)
	if err != nil {
		return c.report(err)
	}
	code := 0
	for _, line := range lines {
		if code = max(code, c.run(ctx, line...)); code >= exitHard {
			break
		}
	}
	return code
}

// setupWords parts the words from the options. An object that stands before its command, as in 8.3, changes places with it.
func (c *compat) setupWords(args []string) (words []string, help bool, err error) {
	syncer := slices.Contains(args, "syncer")
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			continue
		}
		if !strings.HasPrefix(arg, "-") {
			words = append(words, arg)
			continue
		}
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		if arg == "--help" || arg == "-h" {
			help = true
			continue
		}
		if syncer {
			arg = syncerOption(arg)
		}
		used, err := c.backendOption(arg, next)
		if err != nil {
			return nil, false, err
		}
		i += used - 1
	}
	if len(words) > 0 && words[0] == "help" {
		return words[1:], true, nil
	}
	if len(words) > 1 && isDevice(words[0]) {
		words[0], words[1] = words[1], words[0]
	}
	return words, help, nil
}

// syncerOption gives an option of 8.3's syncer its name of today.
func syncerOption(arg string) string {
	name, value, joined := strings.Cut(arg, "=")
	to, ok := map[string]string{"-r": "--resync-rate", "--rate": "--resync-rate", "-a": "--resync-after", "--after": "--resync-after", "-e": "--al-extents",
		"-v": "--verify-alg", "-C": "--csums-alg", "-c": "--cpu-mask"}[name]
	if !ok {
		return arg
	}
	if joined {
		return to + "=" + value
	}
	return to
}

// setupLines are the command lines of drship that do the same.
func (c *compat) setupLines(words []string) ([][]string, error) {
	command := findSetup(words[0])
	if command == nil {
		return nil, c.usage("%s: Unknown command\ntry 'drbdsetup help'", words[0])
	}
	if command.why != "" {
		return nil, &control.Error{What: words[0], Text: command.why, Exit: control.ExitRefused}
	}
	c.verb = command.verb
	if err := c.load(); err != nil {
		return nil, err
	}
	if len(words) == 1 && command.everything {
		return [][]string{append([]string{c.verb}, c.options...)}, nil
	}
	if len(words) == 1 {
		return nil, c.usage("drbdsetup %s: missing object\ntry 'drbdsetup help'", words[0])
	}
	if c.verb == "rename-resource" {
		if len(words) != 3 {
			return nil, c.usage("drbdsetup %s: two names are wanted\ntry 'drbdsetup help'", words[0])
		}
		return [][]string{{c.verb, "--from=" + words[1], words[2]}}, nil
	}
	object, err := c.object(c.verb, words[1:])
	if err != nil {
		return nil, err
	}
	if words[0] == "syncer" {
		return c.syncerLines(object), nil
	}
	return [][]string{append(append([]string{c.verb}, c.options...), object)}, nil
}

// syncerLines are what 8.3's syncer is in parts today.
func (c *compat) syncerLines(object string) [][]string {
	var lines [][]string
	for _, part := range []struct{ verb, section string }{{"disk-options", "disk"}, {"net-options", "net"}, {"resource-options", "options"}} {
		line := []string{part.verb}
		for _, o := range c.options {
			name, _, _ := strings.Cut(strings.TrimPrefix(o, "--"), "=")
			if _, ok := config.FindOption(part.section, name); ok {
				line = append(line, o)
			}
		}
		if len(line) > 1 {
			lines = append(lines, append(line, object))
		}
	}
	if lines == nil {
		lines = [][]string{{"syncer", object}}
	}
	return lines
}

func isDevice(word string) bool {
	_, err := strconv.Atoi(word)
	return err == nil || strings.HasPrefix(word, "/dev/")
}

// object translates what drbdsetup's commands are addressed to.
func (c *compat) object(verb string, words []string) (string, error) {
	switch {
	case strings.Contains(words[0], ":") && len(words) > 1: // disconnect ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788
		return c.byAddress(words[0], words[1])
	case isDevice(words[0]): // attach 0 DISK META-DISK INDEX too: which disk it is, the configuration says
		return c.byMinor(words)
	case len(words) == 1 || verb == "new-resource": // new-resource RES NODE-ID
		return words[0], nil
	case verb == "new-minor": // new-minor RES MINOR VOLUME
		return c.newMinor(words)
	case verb == "connect" && strings.Contains(words[1], ":") && len(words) > 2: // connect RES LOCAL REMOTE
		return c.byAddress(words[1], words[2])
	}
	return c.byNodeID(words) // disconnect RES NODE-ID, verify RES NODE-ID VOLUME, new-path RES NODE-ID LOCAL REMOTE
}

func (c *compat) byMinor(words []string) (string, error) {
	for _, r := range c.local() {
		h, err := r.Local(c.node.Node)
		if err != nil {
			continue
		}
		for _, v := range h.Volumes {
			if words[0] != v.Device && words[0] != strconv.Itoa(v.Minor) && words[0] != fmt.Sprintf("/dev/drbd%d", v.Minor) {
				continue
			}
			if c.verb == "attach" && len(words) > 1 && words[1] != v.Disk {
				return "", &control.Error{What: words[0], Text: fmt.Sprintf("the configuration gives the volume the disk %s, not %s", v.Disk, words[1]),
					Hint: "change it there, and adjust", Exit: control.ExitRefused}
			}
			if len(h.Volumes) == 1 {
				return r.Name, nil
			}
			return fmt.Sprintf("%s/%d", r.Name, v.Number), nil
		}
	}
	return c.unknownMinor(words[0])
}

func (c *compat) unknownMinor(word string) (string, error) {
	return "", &control.Error{Code: int(state.ErrMinorInvalid), What: strings.TrimPrefix(word, "/dev/drbd"), Text: state.CodeText(state.ErrMinorInvalid)}
}

// newMinor finds a volume of the configuration, which alone makes volumes.
func (c *compat) newMinor(words []string) (string, error) {
	if r := c.config.Resource(words[0]); r != nil && len(words) == 3 {
		if h, err := r.Local(c.node.Node); err == nil {
			for _, v := range h.Volumes {
				if strconv.Itoa(v.Minor) == words[1] && strconv.Itoa(int(v.Number)) == words[2] {
					return fmt.Sprintf("%s/%d", r.Name, v.Number), nil
				}
			}
		}
	}
	return "", c.notConfigured(words[0])
}

// notConfigured refuses to make what the configuration does not have.
func (c *compat) notConfigured(what string) error {
	return &control.Error{Code: int(state.ErrInvalidRequest), What: what, Text: state.CodeText(state.ErrInvalidRequest),
		Hint: "the configuration makes resources, volumes and connections: write it there, and adjust"}
}

func (c *compat) byAddress(local, remote string) (string, error) {
	for _, r := range c.local() {
		for _, p := range r.Peers(c.node.Node) {
			if strings.TrimPrefix(local, p.Local.Family+":") == p.Local.HostPort() && strings.TrimPrefix(remote, p.Remote.Family+":") == p.Remote.HostPort() {
				return r.Name + ":" + p.Host.Name, nil
			}
		}
	}
	return "", &control.Error{Code: int(state.ErrInvalidRequest), What: "??", Text: state.CodeText(state.ErrInvalidRequest)}
}

func (c *compat) byNodeID(words []string) (string, error) {
	r := c.config.Resource(words[0])
	if r == nil {
		return words[0], nil // the daemon says that it does not know it
	}
	for _, p := range r.Peers(c.node.Node) {
		if strconv.Itoa(p.Host.NodeID) != words[1] {
			continue
		}
		name := r.Name + ":" + p.Host.Name
		if len(words) > 3 && (words[2] != p.Local.Family+":"+p.Local.HostPort() || words[3] != p.Remote.Family+":"+p.Remote.HostPort()) {
			return "", c.notConfigured(words[0])
		}
		if len(words) == 3 {
			name += "/" + words[2]
		}
		return name, nil
	}
	return "", c.notConfigured(words[0])
}
