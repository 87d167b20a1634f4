package verb

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) man() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		GroupID: groupTools,
		Short:   "Write the manual pages into a folder",
		Long:    "Writes drship.8 and a page for every verb (drship-up.8, …) into the folder, in troff with the man macros.",
		Example: "  drship man /usr/local/share/man/man8",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make folder: %w", err)
			}
			root := cmd.Root()
			root.InitDefaultHelpCmd()
			return writePages(args[0], root)
		},
	}
}

func writePages(dir string, cmd *cobra.Command) error {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".8"
	if err := os.WriteFile(filepath.Join(dir, name), manPage(cmd), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if err := writePages(dir, c); err != nil {
			return err
		}
	}
	return nil
}

// manPage renders one command. It carries no date, so that the same program writes the same page.
func manPage(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	dashed := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 8 \"\" %s \"System Administration\"\n", strings.ToUpper(troff(dashed)), troff(`"drship"`))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", troff(dashed), troff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n%s\n", troff(cmd.CommandPath()), troff(strings.TrimPrefix(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()), " ")))
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", troff(long))
	if subs := cmd.Commands(); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, c := range subs {
			if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
				fmt.Fprintf(&b, ".TP\n.BR %s (8)\n%s\n", troff(strings.ReplaceAll(c.CommandPath(), " ", "-")), troff(c.Short))
			}
		}
	}
	manFlags(&b, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF EVERY VERB", cmd.InheritedFlags())
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", troff(cmd.Example))
	}
	b.WriteString(".SH EXIT STATUS\n0 done; 1 wrong arguments; 5 a wait ran out of time; 10, 11, 16, 17 refused; 20 the daemon cannot be reached or failed; 40 metadata is there already.\n")
	if cmd.HasParent() {
		b.WriteString(".SH SEE ALSO\n.BR drship (8)\n")
	}
	return b.Bytes()
}

func manFlags(b *bytes.Buffer, title string, fs *pflag.FlagSet) {
	if !fs.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		text := "--" + f.Name
		if f.Shorthand != "" {
			text = "-" + f.Shorthand + ", " + text
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR", troff(text))
		if value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", troff(value))
		}
		fmt.Fprintf(b, "\n%s\n", troff(usage))
	})
}

// troff makes text safe: backslashes and hyphens as they are typed, no line that begins with a control character.
func troff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
