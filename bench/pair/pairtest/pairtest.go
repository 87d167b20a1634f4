// Package pairtest runs pairs of real daemons inside Go tests, and finds the tools that tests drive them with.
package pairtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drship/bench/pair"
)

// Patience bounds a whole test with real processes.
const Patience = 5 * time.Minute

// Real skips a test with real daemons in a -short run, and gives it its context.
func Real(t testing.TB) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real daemons: not in a -short run (see make proofs)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// New prepares a pair in a folder that is removed where the test passes, and kills what runs when it ends.
func New(t testing.TB, o pair.Options) *pair.Pair {
	t.Helper()
	if o.Binary == "" {
		bin, err := pair.Build(t.Context(), t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		o.Binary = bin
	}
	if o.Dir == "" {
		name := strings.NewReplacer("/", "-", " ", "_").Replace(t.Name())
		dir, err := os.MkdirTemp("", "drship-"+name+"-")
		if err != nil {
			t.Fatal(err)
		}
		o.Dir = dir
	}
	if o.Net == nil {
		o.Net = pair.QuickTiming()
	}
	p, err := pair.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, p) })
	return p
}

// Disk reads the whole backing disk of a node's volume 0.
func Disk(t testing.TB, n *pair.Node) []byte {
	t.Helper()
	data, err := os.ReadFile(n.Backing(0))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func end(t testing.TB, p *pair.Pair) {
	if t.Failed() {
		for _, n := range p.Nodes {
			t.Logf("log of %s: …%s", n.Name, n.Log())
		}
		t.Logf("kept: %s (the logs end with where the goroutines stood)", p.Dir())
		if err := p.Autopsy(); err != nil {
			t.Error(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if !t.Failed() {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	}
}

// Up prepares a pair, brings it up and syncs it: the first node is Primary, everything UpToDate.
func Up(ctx context.Context, t testing.TB, o pair.Options) *pair.Pair {
	t.Helper()
	p := New(t, o)
	if err := p.Create(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// Tool returns the path of a program of the machine. Where it is missing the test is skipped, unless DRSHIP_TOOLS=required says
// that it was to be installed.
func Tool(t testing.TB, name, debianPackage string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	if os.Getenv("DRSHIP_TOOLS") == "required" {
		t.Fatalf("%s is not installed (Debian package %s)", name, debianPackage)
	}
	t.Skipf("%s is not installed (Debian package %s; make deps installs it as root)", name, debianPackage)
	return ""
}

// Run runs a tool and returns what it printed; it fails the test if the tool fails.
func Run(ctx context.Context, t testing.TB, path string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return string(out)
}
