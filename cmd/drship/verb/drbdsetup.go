package verb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"drship/cmd/drship/control"
)

// setupCommands maps drbdsetup's commands, of 8.4 and 9, to verbs of drship.
var setupCommands = map[string]string{
	"primary": "primary", "secondary": "secondary", "detach": "detach", "disconnect": "disconnect", "connect": "connect", "down": "down", "invalidate": "invalidate",
	"invalidate-remote": "invalidate-remote", "outdate": "outdate", "verify": "verify", "pause-sync": "pause-sync", "resume-sync": "resume-sync",
	"suspend-io": "suspend-io", "resume-io": "resume-io", "new-current-uuid": "new-current-uuid", "role": "role", "state": "role", "cstate": "cstate", "dstate": "dstate",
	"resize": "resize", "disk-options": "disk-options", "show-gi": "show-gi", "get-gi": "get-gi", "status": "status", "events2": "events2", "wait-connect": "wait-connect", "wait-sync": "wait-sync",
	"wait-connect-volume": "wait-connect", "wait-connect-connection": "wait-connect", "wait-connect-resource": "wait-connect",
	"wait-sync-volume": "wait-sync", "wait-sync-connection": "wait-sync", "wait-sync-resource": "wait-sync",
}

// runDrbdsetup answers for drbdsetup: COMMAND OBJECT…, and OBJECT COMMAND as 8.3 had it. An object is a resource, a minor, a device or all.
func runDrbdsetup(ctx context.Context, d Deps) int {
	c := newCompat("drbdsetup", d, exitHard)
	var words []string
	args := d.Args[1:]
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
			words = append([]string{"help"}, words...)
			continue
		}
		used, err := c.backendOption(arg, next)
		if err != nil {
			return c.report(err)
		}
		i += used - 1
	}
	line, err := c.setupLine(words)
	if err != nil {
		return c.report(err)
	}
	return c.run(ctx, line...)
}

// setupLine is the command line of drship that does the same.
func (c *compat) setupLine(words []string) ([]string, error) {
	if len(words) > 1 && isDevice(words[0]) {
		words[0], words[1] = words[1], words[0]
	}
	if len(words) == 0 || words[0] == "help" {
		return nil, c.setupUsage()
	}
	verb, ok := setupCommands[words[0]]
	if !ok {
		return nil, c.usage("%s: Unknown command\ntry 'drbdsetup help'", words[0])
	}
	c.verb = verb
	if err := c.load(); err != nil {
		return nil, err
	}
	line := append([]string{verb}, c.options...)
	if len(words) == 1 {
		if verb == "status" || verb == "events2" {
			return line, nil
		}
		return nil, c.usage("drbdsetup %s: missing object\ntry 'drbdsetup help'", words[0])
	}
	t, err := c.object(words[1:])
	if err != nil {
		return nil, err
	}
	return append(line, t), nil
}

func isDevice(word string) bool {
	_, err := strconv.Atoi(word)
	return err == nil || strings.HasPrefix(word, "/dev/")
}

// object translates what drbdsetup's commands are addressed to.
func (c *compat) object(words []string) (string, error) {
	if strings.Contains(words[0], ":") && len(words) > 1 { // disconnect ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788
		return c.byAddress(words[0], words[1])
	}
	if !isDevice(words[0]) {
		if len(words) > 1 { // disconnect RES NODE-ID
			return c.byNodeID(words)
		}
		return words[0], nil
	}
	for _, r := range c.local() {
		h, err := r.Local(c.node.Node)
		if err != nil {
			continue
		}
		for _, v := range h.Volumes {
			if words[0] == v.Device || words[0] == strconv.Itoa(v.Minor) || words[0] == fmt.Sprintf("/dev/drbd%d", v.Minor) {
				if len(h.Volumes) == 1 {
					return r.Name, nil
				}
				return fmt.Sprintf("%s/%d", r.Name, v.Number), nil
			}
		}
	}
	return "", &control.Error{Code: 127, What: strings.TrimPrefix(words[0], "/dev/drbd"), Text: "Device minor not allocated"}
}

func (c *compat) byAddress(local, remote string) (string, error) {
	for _, r := range c.local() {
		for _, p := range r.Peers(c.node.Node) {
			if strings.TrimPrefix(local, p.Local.Family+":") == p.Local.HostPort() && strings.TrimPrefix(remote, p.Remote.Family+":") == p.Remote.HostPort() {
				return r.Name + ":" + p.Host.Name, nil
			}
		}
	}
	return "", &control.Error{Code: 162, What: "??", Text: "Invalid configuration request"}
}

func (c *compat) byNodeID(words []string) (string, error) {
	r := c.config.Resource(words[0])
	if r == nil {
		return words[0], nil // the daemon says that it does not know it
	}
	for _, p := range r.Peers(c.node.Node) {
		if strconv.Itoa(p.Host.NodeID) == words[1] {
			name := r.Name + ":" + p.Host.Name
			if len(words) > 2 {
				name += "/" + words[2]
			}
			return name, nil
		}
	}
	return "", &control.Error{Code: 162, What: words[0], Text: "Invalid configuration request"}
}

// setupUsage is printed where drbdsetup is not told what to do; its exit code is 20 as with the real one.
func (c *compat) setupUsage() error {
	var b strings.Builder
	b.WriteString("\nUSAGE: drbdsetup command device arguments options\n\nDevice is usually /dev/drbdX or /dev/drbd/X.\n\nCommands are:\n")
	var all []string
	for name := range setupCommands {
		all = append(all, name)
	}
	slices.Sort(all)
	for i, name := range all {
		if i%3 == 0 {
			b.WriteString("   ")
		}
		fmt.Fprintf(&b, " %-24s", name)
		if i%3 == 2 || i == len(all)-1 {
			b.WriteByte('\n')
		}
	}
	return c.usage("%s", b.String())
}
