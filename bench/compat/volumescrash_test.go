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

// A Primary that is killed while adjust adds or removes a volume loses nothing that was written, and comes up with the volumes that its file has.
func TestVolumesCut(t *testing.T) {
	ctx := pairtest.Real(t)
	for i, c := range []struct {
		add   bool
		after time.Duration
	}{{true, 5 * time.Millisecond}, {true, 60 * time.Millisecond}, {false, 15 * time.Millisecond}, {false, 120 * time.Millisecond}} {
		t.Run(fmt.Sprint(c.add, c.after), func(t *testing.T) {
			s, set := twoVolumes(t, pair.Options{Net: pair.QuickTiming()})
			set("alice", !c.add)
			set("bob", !c.add)
			if err := s.p.StartAll(ctx); err != nil {
				t.Fatal(err)
			}
			for _, n := range []string{"alice", "bob"} {
				s.replay(ctx, []step{{n, "drbdadm create-md r0", 0, created}, {n, "drbdadm up r0", 0, `^$`}})
			}
			s.replay(ctx, []step{
				{"alice", "drbdadm cstate r0/0", 0, `^Connected\n$`}, {"alice", "drbdadm primary --force r0", 0, `^$`}, {"bob", "drbdadm dstate r0/0", 0, `^UpToDate/UpToDate\n$`},
			})
			v, err := s.p.Node("alice").Open(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			mark := bytes.Repeat([]byte{byte('a' + i)}, 4096)
			if err := v.WriteAt(ctx, mark, 8192, true); err != nil {
				t.Fatal(err)
			}
			set("alice", c.add)
			if c.add {
				s.replay(ctx, []step{{"alice", "drbdadm create-md r0/1", 0, created}})
			}
			s.killDuring(ctx, "drbdadm adjust r0", c.after, "alice")
			v.Close()
			if err := s.p.Node("alice").Start(ctx); err != nil {
				t.Fatal(err)
			}
			set("bob", c.add)
			if c.add {
				s.replay(ctx, []step{{"bob", "drbdadm create-md r0/1", 0, created}})
			}
			s.replay(ctx, []step{
				{"bob", "drbdadm adjust r0", 0, `^$`},
				{"alice", "drbdadm cstate r0/0", 0, `^Connected\n$`},
				{"alice", "drbdadm dstate r0/0", 0, `^UpToDate/UpToDate\n$`},
				{"bob", "drbdadm -d adjust r0", 0, `^$`},
				{"alice", "drbdadm -d adjust r0", 0, `^$`},
			})
			if c.add {
				s.replay(ctx, []step{
					{"alice", "drbdadm primary r0", 0, `^$`}, {"alice", "drbdadm primary --force r0/1", 0, `^$`}, {"bob", "drbdadm dstate r0/1", 0, `^UpToDate/UpToDate\n$`}, {"alice", "drbdadm secondary r0", 0, `^$`},
				})
			}
			s.replay(ctx, []step{{"bob", "drbdadm primary r0", 0, `^$`}})
			for _, n := range []string{"alice", "bob"} {
				raw, err := os.ReadFile(s.p.Node(n).Backing(0))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(raw[8192:8192+4096], mark) {
					t.Errorf("%s: an acknowledged write is gone", n)
				}
			}
		})
	}
}
