package verb

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// everyVerb calls f with each command that a user can call.
func everyVerb(t *testing.T, f func(path string, c *cobra.Command)) {
	t.Helper()
	d := Deps{}
	d.fill()
	a := &app{deps: d}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		f(c.CommandPath(), c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.root())
}

func TestEveryVerbIsExplained(t *testing.T) {
	count := 0
	everyVerb(t, func(path string, c *cobra.Command) {
		count++
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", path, c.Short)
		}
		if !strings.HasPrefix(c.Example, "  ") || !strings.Contains(c.Example, "drship") {
			t.Errorf("%s: no example", path)
		}
		if c.Parent() != nil && c.Parent().Parent() == nil && c.GroupID == "" {
			t.Errorf("%s: stands in no group of the help", path)
		}
	})
	if count < 40 {
		t.Errorf("only %d verbs", count)
	}
	got := execute(t.Context(), Deps{}, "drship", "primary", "--help")
	if got.code != 0 || !strings.Contains(got.out, "drship primary --force r0") {
		t.Errorf("help of primary: %+v", got)
	}
	if got := execute(t.Context(), Deps{}, "drship", "version"); got.code != 0 || !strings.HasPrefix(got.out, "drship ") {
		t.Errorf("version: %+v", got)
	}
}

// Each example is a command line that its own verb understands.
func TestExamplesParse(t *testing.T) {
	everyVerb(t, func(path string, c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			line, _, _ = strings.Cut(line, "|")
			line, _, _ = strings.Cut(line, "&&")
			_, args, found := strings.Cut(strings.TrimSpace(line), "drship ")
			if !found || strings.Contains(args, "$(") || strings.Contains(args, "…") {
				continue
			}
			d := Deps{}
			d.fill()
			root := (&app{deps: d}).root()
			cmd, rest, err := root.Find(strings.Fields(args))
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err != nil || cmd == root {
				t.Errorf("%s: example %q: %v", path, strings.TrimSpace(line), err)
			}
		}
	})
}

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	if got := execute(t.Context(), Deps{}, "drship", "man", dir); got != (result{}) {
		t.Fatalf("man: %+v", got)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.8"))
	if err != nil || len(pages) < 40 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "drship-primary.8"))
	for _, want := range []string{".TH DRSHIP\\-PRIMARY 8", ".SH EXAMPLES", `\fB\-f, \-\-force\fR`, ".BR drship (8)"} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("drship-primary.8 lacks %q: %v", want, err)
		}
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("groff is not installed: the pages are not run through it")
	}
	out, err := exec.Command("groff", append([]string{"-man", "-ww", "-z", "-Tutf8", "-K", "utf8"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}

// The table that users read names every exit code that the program gives itself.
func TestExitCodesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{0, exitUsage, exitTimeout, exitConfig, exitFailed, 11, 16, 17, exitHard, 40, exitInterrupted} {
		if !strings.Contains(string(text), "\n| "+strconv.Itoa(code)+" |") {
			t.Errorf("docs/exit-codes.md has no row for %d", code)
		}
	}
}
