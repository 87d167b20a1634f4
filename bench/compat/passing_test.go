package compat

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// events follows a node with drbdsetup events2.
type events struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(p)
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// follow starts drbdsetup events2 on a node until the test ends.
func (s *shell) follow(ctx context.Context, node string) *events {
	s.t.Helper()
	n, e := s.p.Node(node), &events{}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, filepath.Join(s.names, "drbdsetup"), "events2", "r0")
	cmd.Env = append(cmd.Environ(), "DRSHIP_CONFIG="+n.ConfigPath(), "DRSHIP_NODE="+node, "DRSHIP_RUN_DIR="+n.RunDir())
	cmd.Stdout = e
	if err := cmd.Start(); err != nil {
		cancel()
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	s.see(ctx, e, "exists -\n")
	return e
}

// see waits for a pattern in what events2 has printed, and takes everything up to it away.
func (s *shell) see(ctx context.Context, e *events, pattern string) {
	s.t.Helper()
	want := regexp.MustCompile("(?s)" + pattern)
	deadline := time.Now().Add(3 * patience)
	for {
		e.mu.Lock()
		at := want.FindIndex(e.text.Bytes())
		if at != nil {
			e.text.Next(at[1])
		}
		e.mu.Unlock()
		if at != nil {
			return
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			s.t.Fatalf("events2 never printed %q:\n%s", pattern, e)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// States that last for a moment: events2 tells of each.
func TestPassingStates(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming()})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, first("drbdadm primary --force r0"))
	alice, bob := s.follow(ctx, "alice"), s.follow(ctx, "bob")
	s.replay(ctx, []step{{"alice", "drbdadm disconnect r0", 0, `^$`}})
	s.see(ctx, alice, `connection:Disconnecting role:Unknown\n.*connection:StandAlone\n`)
	s.see(ctx, bob, `connection:TearDown role:Unknown\n.*connection:Unconnected\n.*connection:Connecting\n`)
	s.replay(ctx, []step{{"alice", "drbdadm connect r0", 0, `^$`}})
	s.see(ctx, alice, `connection:Unconnected\n.*connection:Connecting\n.*connection:Connected.*role:Secondary\n.*replication:WFBitMapS.*replication:Established`)
	s.see(ctx, bob, `connection:Connected.*replication:WFBitMapT.*replication:Established`)
	s.replay(ctx, []step{{"bob", "drbdadm invalidate r0", 0, `^$`}})
	s.see(ctx, bob, `replication:StartingSyncT.*replication:WFBitMapT.*replication:WFSyncUUID.*replication:SyncTarget.*replication:Established`)
	s.replay(ctx, []step{{"alice", "drbdadm invalidate-remote r0", 0, `^$`}})
	s.see(ctx, alice, `replication:StartingSyncS.*replication:WFBitMapS.*replication:SyncSource.*replication:Established`)
	s.replay(ctx, []step{{"bob", "drbdadm detach r0", 0, `^$`}})
	s.see(ctx, bob, `disk:Failed\n.*disk:Diskless\n`)
	s.replay(ctx, []step{{"alice", "drbdadm cstate r0", 0, `^Connected\n$`}, {"bob", "drbdadm cstate r0", 0, `^Connected\n$`}, {"bob", "drbdadm attach r0", 0, `^$`}})
	s.see(ctx, bob, `disk:Attaching\n.*disk:Negotiating\n.*disk:UpToDate`)
	s.replay(ctx, []step{{"alice", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`}})
	// A machine that stops answering, and a program that is there again before anybody missed it.
	node := s.p.Node("bob")
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	s.see(ctx, alice, `connection:NetworkFailure role:Unknown\n.*connection:Unconnected\n.*connection:Connecting\n`)
	if err := node.Cont(); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, []step{{"alice", "drbdadm cstate r0", 0, `^Connected\n$`}})
	if err := node.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := node.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s.see(ctx, alice, `connection:(BrokenPipe|NetworkFailure|TearDown) role:Unknown\n.*connection:Connected\n`)
}
