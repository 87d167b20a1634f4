// Package compat replays, under DRBD's names and against real daemons, what documents about DRBD tell their readers to run.
package compat

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const (
	patience   = 8 * time.Second
	volumeSize = 16 << 20
)

// shell runs commands on the nodes of a pair, as an administrator does who has DRBD's names in front of drship's.
type shell struct {
	t     *testing.T
	p     *pair.Pair
	names string // folder of links
}

// output is what a command printed, and how it ended.
type output struct {
	out, err string
	code     int
}

func newShell(t *testing.T, o pair.Options) *shell {
	t.Helper()
	binary, err := pair.Build(t.Context(), t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	o.Binary = binary
	s := &shell{t: t, names: t.TempDir()}
	for _, name := range []string{"drbdadm", "drbdsetup", "drbdmeta", "drbd-overview"} {
		if err := os.Symlink(binary, filepath.Join(s.names, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.p = pairtest.New(t, o)
	return s
}

// run runs a line on a node: a program of DRBD's, or cat /proc/drbd.
func (s *shell) run(ctx context.Context, node, line string) output {
	s.t.Helper()
	n := s.p.Node(node)
	words := strings.Fields(line)
	if line == "cat /proc/drbd" {
		text, err := os.ReadFile(filepath.Join(n.RunDir(), "proc-drbd"))
		if err != nil {
			return output{err: err.Error(), code: 1}
		}
		return output{out: string(text)}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.names, words[0]), words[1:]...)
	cmd.Env = append(os.Environ(), "DRSHIP_CONFIG="+n.ConfigPath(), "DRSHIP_NODE="+node, "DRSHIP_RUN_DIR="+n.RunDir(), "DRSHIP_STATE_DIR="+n.StateDir())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o := output{out: stdout.String(), err: stderr.String()}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		o.code = exit.ExitCode()
	} else if err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	return o
}

// killDuring runs a command on alice and kills a node's daemon a moment later, whatever becomes of the command.
func (s *shell) killDuring(ctx context.Context, line string, after time.Duration, victim string) {
	s.t.Helper()
	var command sync.WaitGroup
	command.Go(func() { s.run(ctx, "alice", line) })
	select {
	case <-time.After(after):
	case <-ctx.Done():
	}
	if err := s.p.Node(victim).Kill(); err != nil {
		s.t.Fatal(err)
	}
	command.Wait()
}

// step is one command of a transcript.
type step struct {
	node, line string
	code       int
	want       string // a regular expression over what is printed on either output; a state that has to come is asked for again
}

// replay runs the steps in order.
func (s *shell) replay(ctx context.Context, steps []step) {
	s.t.Helper()
	for _, st := range steps {
		want := regexp.MustCompile(st.want)
		deadline := time.Now().Add(patience)
		for {
			o := s.run(ctx, st.node, st.line)
			if o.code == st.code && want.MatchString(o.out+o.err) {
				break
			}
			if !reads(st.line) || time.Now().After(deadline) || ctx.Err() != nil {
				s.t.Fatalf("[root@%s ~]# %s\nexit %d, want %d and %q\n%s%s", st.node, st.line, o.code, st.code, st.want, o.out, o.err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// reads reports whether a command only looks: asking again is what a reader of a document does while it waits.
func reads(line string) bool {
	return regexp.MustCompile(`^(cat|drbd-overview)|^drbd\w+ (-v )?(\S+ )*(role|state|cstate|dstate|status|get-gi)\b`).MatchString(line)
}

// fill gives a node's disk content that a resync has to carry: holes cost it nothing.
func fill(ctx context.Context, t *testing.T, n *pair.Node) {
	t.Helper()
	if err := ctx.Err(); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, volumeSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(raw) // never fails, says the package
	if err := os.WriteFile(n.Backing(0), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
