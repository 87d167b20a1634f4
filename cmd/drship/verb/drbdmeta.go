package verb

import (
	"context"
	"strings"
)

// metaCommands maps drbdmeta's commands to verbs of drship. Metadata lives in the state directory: what only makes sense for
// metadata on a disk is refused.
var metaCommands = map[string]string{
	"get-gi": "get-gi", "show-gi": "show-gi", "outdate": "outdate", "invalidate": "invalidate", "create-md": "create-md", "dstate": "dstate",
	"dump-md": "dump-md", "wipe-md": "wipe-md", "apply-al": "apply-al", "set-gi": "set-gi", "check-resize": "check-resize", "forget-peer": "forget-peer",
}

// runDrbdmeta answers for drbdmeta [--force] DEVICE FORMAT [FORMAT ARGS…] COMMAND [ARGS…].
func runDrbdmeta(ctx context.Context, d Deps) int {
	c := newCompat("drbdmeta", d, exitHard)
	var words []string
	args := d.Args[1:]
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--adopt":
			c.options = append(c.options, arg)
		case arg == "--force" || arg == "-f":
			c.options = append(c.options, "--force")
		case arg == "--node-id" || arg == "--peer-max-bio-size" || arg == "--al-stripes" || arg == "--al-stripe-size-kB":
			i++ // its value; of no meaning here
		case strings.HasPrefix(arg, "-"):
		default:
			words = append(words, arg)
		}
	}
	line, err := c.metaLine(words)
	if err != nil {
		return c.report(err)
	}
	return c.run(ctx, line...)
}

// metaUsage is printed where drbdmeta is not told what to do, or asked for help; its exit code is 20 as with the real one.
const metaUsage = `
USAGE: drbdmeta [--force] DEVICE FORMAT [FORMAT ARGS...] COMMAND [CMD ARGS...]

FORMATS:
  v06 minor
  v07 device index
  v08 device index
  v09 device index

COMMANDS:
  get-gi --node-id {val} 
  show-gi --node-id {val} 
  dump-md 
  apply-al 
  wipe-md 
  outdate 
  invalidate 
  dstate 
  check-resize 
  create-md [--peer-max-bio-size {val}] [--al-stripes {val}] [--al-stripe-size-kB {val}] {max_peers}
  set-gi --node-id {val} {gi}
  forget-peer --node-id {val} 
`

// formatArgs is how many words follow each format's name.
var formatArgs = map[string]int{"v06": 1, "v07": 2, "v08": 2, "v09": 2}

func (c *compat) metaLine(words []string) ([]string, error) {
	if len(words) < 2 {
		return nil, c.usage("%s", metaUsage)
	}
	skip, ok := formatArgs[words[1]]
	if !ok {
		return nil, c.usage("drbdmeta: Unknown format '%s'.", words[1])
	}
	if len(words) < 3+skip {
		return nil, c.usage("drbdmeta: command missing")
	}
	command := words[2+skip]
	verb, ok := metaCommands[command]
	if !ok {
		return nil, c.usage("drbdmeta: command '%s' has no meaning here: metadata lives in the state directory", command)
	}
	c.verb = verb
	if err := c.load(); err != nil {
		return nil, err
	}
	object, err := c.byMinor(words[:1])
	if err != nil {
		return nil, err
	}
	line := []string{verb}
	switch verb {
	case "create-md", "wipe-md":
		line = append(line, c.options...)
	case "set-gi":
		if len(words) < 4+skip {
			return nil, c.usage("drbdmeta: set-gi wants the identifiers")
		}
		line = append(append(line, c.options...), "--gi="+words[3+skip])
	}
	return append(line, object), nil
}
