// Mutate plants defects, one at a time, in a copy of the tree, and tells after how many seeds the simulation catches each (make mutate). A
// defect that nothing catches fails the run: then a test is missing.
//
//	defects.go   what is done wrong
//	main.go      the run and its table
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	seeds := flag.Int("seeds", 200, "how many seeds may pass before a defect counts as not caught")
	only := flag.String("only", "", "only the defects whose name contains this")
	report := flag.String("report", "", "a file that gets the table, between its marks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *seeds, *only, *report); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// errMissed says that a defect passed every test.
var errMissed = errors.New("not caught")

func run(ctx context.Context, seeds int, only, report string) (err error) {
	dir, err := os.MkdirTemp("", "drship-mutate-")
	if err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copyTree(ctx, dir); err != nil {
		return err
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| defect | where | caught by | after |\n|---|---|---|---|\n")
	var missed []error
	for _, d := range defects {
		if !strings.Contains(d.name, only) {
			continue
		}
		by, err := try(ctx, dir, d, seeds)
		if err != nil && !errors.Is(err, errMissed) {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if err != nil {
			missed = append(missed, fmt.Errorf("%s: %w", d.name, err))
		}
		line := fmt.Sprintf("| %s | `%s` | %s |\n", d.name, d.file, by)
		fmt.Print(line)
		table.WriteString(line)
	}
	if report != "" {
		if err := write(report, table.String()); err != nil {
			return err
		}
	}
	return errors.Join(missed...)
}

// copyTree puts what git knows of the tree into dir, as it stands on the disk.
func copyTree(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", `git ls-files -z | tar --null --files-from=- -c | tar -x -C "$1"`, "sh", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy the tree: %w: %s", err, out)
	}
	return nil
}

// try plants a defect, looks for who catches it, and takes it out again. It returns the last two columns of the table.
func try(ctx context.Context, dir string, d defect, seeds int) (caught string, err error) {
	path := filepath.Join(dir, d.file)
	whole, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read what is to be changed: %w", err)
	}
	if n := bytes.Count(whole, []byte(d.old)); n != 1 {
		return "", fmt.Errorf("%s has %d places like %q, want one", d.file, n, d.old)
	}
	if err := os.WriteFile(path, bytes.Replace(whole, []byte(d.old), []byte(d.new), 1), 0o600); err != nil {
		return "", fmt.Errorf("plant: %w", err)
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, whole, 0o600)) }()
	seed, err := simulate(ctx, dir, seeds)
	if err != nil {
		return "", err
	}
	if seed > 0 {
		return fmt.Sprintf("simulation | %d seeds", seed), nil
	}
	if d.pin[0] == "" {
		return fmt.Sprintf("**nobody** | %d seeds", seeds), errMissed
	}
	out, failed, err := goTest(ctx, dir, d.pin[0], "-run", d.pin[1])
	if err != nil {
		return "", err
	}
	name := firstFailure.FindSubmatch(out)
	if !failed || name == nil {
		return fmt.Sprintf("**nobody** | %d seeds, %s", seeds, d.pin[0]), errMissed
	}
	return fmt.Sprintf("`%s` %s | %d seeds passed: %s", strings.TrimPrefix(d.pin[0], "./"), name[1], seeds, d.why), nil
}

var (
	failedSeed   = regexp.MustCompile(`seed (\d+):`)
	firstFailure = regexp.MustCompile(`--- FAIL: (Test\w+)`)
)

// simTimeout bounds a run of the simulation: a defect may make it hang, which is a way of being caught.
const simTimeout = 10 * time.Minute

// simulate returns the number of seeds that it took to catch the defect, 0 where all passed.
func simulate(ctx context.Context, dir string, seeds int) (int, error) {
	out, failed, err := goTest(ctx, dir, "./bench/sim", "-run", "^TestSimulation$", "-timeout", simTimeout.String(), "-seed", "1", "-seeds", strconv.Itoa(seeds))
	if err != nil || !failed {
		return 0, err
	}
	if m := failedSeed.FindSubmatch(out); m != nil {
		return strconv.Atoi(string(m[1]))
	}
	if bytes.Contains(out, []byte("panic: ")) || bytes.Contains(out, []byte("deadlock")) {
		return 1, nil // it broke down, or hung
	}
	return 0, fmt.Errorf("the simulation says no seed:\n%s", out)
}

// goTest runs a test; failed says that it was the test that failed, not its build.
func goTest(ctx context.Context, dir, pkg string, args ...string) (out []byte, failed bool, err error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", pkg}, args...)...)
	cmd.Dir = dir
	out, err = cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, false, nil
	case errors.As(err, &exit) && !bytes.Contains(out, []byte("[build failed]")) && !bytes.Contains(out, []byte("[setup failed]")):
		return out, true, nil
	}
	return out, false, fmt.Errorf("go test %s: %w\n%s", pkg, err, out)
}

// The marks between which a report holds the table.
const (
	beginMark = "<!-- mutate: begin -->\n"
	endMark   = "<!-- mutate: end -->\n"
)

func write(path, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	before, rest, ok := bytes.Cut(text, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks for the table", path)
	}
	var b bytes.Buffer
	for _, part := range []io.Reader{bytes.NewReader(before), strings.NewReader(beginMark + table + endMark), bytes.NewReader(after)} {
		if _, err := b.ReadFrom(part); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
