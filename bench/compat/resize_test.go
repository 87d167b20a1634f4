package compat

import (
	"bytes"
	"context"
	"os"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// A volume grows while a client writes; what is new is resynced, or with --assume-clean is not, and both sides end equal.
func TestResize(t *testing.T) {
	ctx := pairtest.Real(t)
	for name, c := range map[string]struct {
		line  string
		clean bool
	}{"resync": {"drbdadm resize r0", false}, "assume clean": {"drbdadm -- --assume-clean resize r0/0", true}} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming()})
			if err := s.p.StartAll(ctx); err != nil {
				t.Fatal(err)
			}
			s.replay(ctx, first("drbdadm primary --force r0"))
			s.replay(ctx, []step{
				{"alice", "drbdadm resize --size=64M r0", 10, `Failure: \(111\) Low\.dev\. smaller than requested`},
				{"alice", "drbdadm resize --size=1M r0", 10, `Failure: \(170\)`},
				{"bob", "drbdadm resize r0", 10, `Failure: \(131\) Need one Primary node to resize\.`},
				{"alice", "drbdadm resize r0", 0, `^$`}, // nothing has grown
			})
			for _, n := range s.p.Nodes {
				if err := os.Truncate(n.Backing(0), 3*volumeSize); err != nil {
					t.Fatal(err)
				}
			}
			v, err := s.p.Node("alice").Open(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			stop, ended := make(chan struct{}), make(chan error, 1)
			go func() { ended <- writeUntil(ctx, stop, v) }()
			s.replay(ctx, []step{{"alice", c.line, 0, `^$`}})
			close(stop)
			if err := <-ended; err != nil {
				t.Fatalf("a client's write failed while the volume grew: %v", err)
			}
			v.Close()
			if v, err = s.p.Node("alice").Open(ctx, 0); err != nil {
				t.Fatal(err)
			}
			if v.Size() != 3*volumeSize {
				t.Fatalf("the export has %d bytes", v.Size())
			}
			if err := v.WriteAt(ctx, bytes.Repeat([]byte("new room"), 512), 2*volumeSize, false); err != nil {
				t.Fatal(err)
			}
			v.Close()
			if err := s.p.WaitUpToDate(ctx); err != nil {
				t.Fatal(err)
			}
			s.replay(ctx, []step{
				{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----` + counted + `0\n$`},
				{"alice", "drbdsetup events2 --now --statistics r0", 0, ` size:49152 `},
				{"alice", "drbdadm secondary r0", 0, `^$`},
				{"bob", "drbdadm primary r0", 0, `^$`},
			})
			if v, err = s.p.Node("bob").Open(ctx, 0); err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			if v.Size() != 3*volumeSize {
				t.Errorf("the other side has %d bytes", v.Size())
			}
			a, b := pairtest.Disk(t, s.p.Node("alice")), pairtest.Disk(t, s.p.Node("bob"))
			if !bytes.Equal(a, b) {
				t.Error("the sides differ")
			}
			if !bytes.HasPrefix(b[2*volumeSize:], []byte("new room")) {
				t.Error("what was written to the new room is not there")
			}
		})
	}
}

// writeUntil writes all over the old size until stop is closed.
func writeUntil(ctx context.Context, stop <-chan struct{}, v *pair.Volume) error {
	for i := int64(0); ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := v.WriteAt(ctx, bytes.Repeat([]byte{byte(i)}, 4096), i*7*4096%volumeSize, false); err != nil {
			return err
		}
	}
}
