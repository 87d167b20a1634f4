package compat

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// kill -9 at moments in and around an online resize, of either side: once both are back the volume has one size, both sides hold the same, and what was
// acknowledged is there. resize is said again, as an administrator would whose command broke off.
func TestCrashDuringResize(t *testing.T) {
	ctx := pairtest.Real(t)
	for i, c := range []struct {
		victim string
		after  time.Duration
	}{{"bob", 0}, {"alice", 0}, {"alice", 2 * time.Millisecond}, {"bob", 4 * time.Millisecond}, {"alice", 8 * time.Millisecond}, {"bob", 25 * time.Millisecond}} {
		t.Run(fmt.Sprintf("%s after %v", c.victim, c.after), func(t *testing.T) {
			s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming()})
			if err := s.p.StartAll(ctx); err != nil {
				t.Fatal(err)
			}
			s.replay(ctx, first("drbdadm primary --force r0"))
			v, err := s.p.Node("alice").Open(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			mark := bytes.Repeat([]byte{byte('a' + i)}, 4096)
			if err := v.WriteAt(ctx, mark, volumeSize-4096, true); err != nil {
				t.Fatal(err)
			}
			for _, n := range s.p.Nodes {
				if err := os.Truncate(n.Backing(0), 2*volumeSize); err != nil {
					t.Fatal(err)
				}
			}
			s.killDuring(ctx, "drbdadm resize r0", c.after, c.victim)
			victim := s.p.Node(c.victim)
			v.Close()
			if err := victim.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if c.victim == "alice" {
				if err := victim.Promote(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.p.WaitUpToDate(ctx); err != nil {
				t.Fatal(err)
			}
			s.replay(ctx, []step{{"alice", "drbdadm resize r0", 0, `^$`}})
			if err := s.p.WaitUpToDate(ctx); err != nil {
				t.Fatal(err)
			}
			s.replay(ctx, []step{
				{"alice", "drbdsetup events2 --now --statistics r0", 0, ` size:32768 `},
				{"bob", "drbdsetup events2 --now --statistics r0", 0, ` size:32768 `},
				{"alice", "drbdadm secondary r0", 0, `^$`},
				{"bob", "drbdadm primary r0", 0, `^$`},
			})
			a, b := pairtest.Disk(t, s.p.Node("alice")), pairtest.Disk(t, s.p.Node("bob"))
			if !bytes.Equal(a, b) {
				t.Error("the sides differ")
			}
			if !bytes.Equal(b[volumeSize-4096:volumeSize], mark) {
				t.Error("a write that was acknowledged before the crash is gone")
			}
		})
	}
}
