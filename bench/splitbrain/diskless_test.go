package splitbrain

import (
	"path/filepath"
	"strings"
	"testing"

	"drship/bench/pair"
)

func disk(state string) func(pair.Status) bool {
	return func(s pair.Status) bool { return s.Devices[0].Disk == state }
}

// TestPrimaryDiskFails: the peer carries out what the disk cannot, the client's connection notices nothing, and a reattached disk is brought up
// to date under it.
func TestPrimaryDiskFails(t *testing.T) {
	for _, protocol := range []string{"A", "C"} {
		t.Run(protocol, func(t *testing.T) {
			dir, grow := smallDisk(t)
			policy := map[string]string{"A": "on-io-error detach", "C": "on-io-error call-local-io-error"}[protocol]
			w := begin(t, pair.Options{Protocol: protocol, Disk: []string{policy}, Backing: func(node string, _ int) string {
				if node == "alice" {
					return filepath.Join(dir, "vol0.img")
				}
				return filepath.Join(filepath.Dir(dir), "bob.img")
			}}, "local-io-error")
			client, err := w.alice.Open(w.ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			write := func(from, n int, text string) {
				t.Helper()
				for b := from; b < from+n; b++ {
					if err := client.WriteAt(w.ctx, content(text), int64(b)*4096, b%7 == 0); err != nil {
						t.Fatalf("block %d: %v", b, err)
					}
				}
			}
			reads := func(b int, text string) {
				t.Helper()
				got := make([]byte, 4096)
				if err := client.ReadAt(w.ctx, got, int64(b)*4096); err != nil || string(got) != string(content(text)) {
					t.Fatalf("block %d reads %.30q, %v", b, got, err)
				}
			}
			write(0, 1024, "more than alice's disk takes")
			w.wait(w.alice, "Diskless", disk("Diskless"))
			if protocol == "C" {
				w.ran("alice local-io-error bob")
			}
			reads(0, "more than alice's disk takes")
			reads(1023, "more than alice's disk takes")
			write(10, 5, "while alice has no disk")
			if err := client.Flush(w.ctx); err != nil {
				t.Fatal(err)
			}
			w.holds(w.bob, 12, "while alice has no disk")
			if s := w.wait(w.alice, "served", func(pair.Status) bool { return true }); s.Role != "Primary" {
				t.Fatalf("alice is %s", s.Role)
			}
			w.refused(w.bob, "uses the data here", "detach")
			w.refused(w.alice, "only bob has its data", "disconnect")

			grow()
			w.verb(w.alice, "attach")
			write(20, 5, "while the disk comes back")
			w.wait(w.alice, "UpToDate again", disk("UpToDate"))
			reads(12, "while alice has no disk")
			write(30, 5, "on alice's own disk")
			reads(1023, "more than alice's disk takes")
			client.Close()
			w.equal()
			w.holds(w.alice, 12, "while alice has no disk")
			w.holds(w.alice, 22, "while the disk comes back")
			w.holds(w.bob, 32, "on alice's own disk")
			w.holds(w.alice, 1000, "more than alice's disk takes")
		})
	}
}

// TestDetachedPrimary: detach by hand under a client, the loss of the peer with both policies, and the way back.
func TestDetachedPrimary(t *testing.T) {
	t.Run("io-error", func(t *testing.T) {
		w := begin(t, pair.Options{}, "pri-on-incon-degr", "disconnected")
		client, err := w.alice.Open(w.ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		w.verb(w.alice, "detach")
		if err := client.WriteAt(w.ctx, content("detached"), 4096, false); err != nil {
			t.Fatal(err)
		}
		if err := w.bob.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := client.WriteAt(w.ctx, content("nowhere to go"), 4096, false); err == nil {
			t.Fatal("a write went through without any disk")
		}
		w.ran("alice pri-on-incon-degr bob", "alice disconnected bob")
		if n := strings.Count(w.noted(), "disconnected"); n != 1 {
			t.Errorf("the handler of a lost connection ran %d times, also where a new handshake followed at once", n)
		}
		if err := w.bob.Start(w.ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.bob.Up(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.wait(w.bob, "the service again", func(pair.Status) bool {
			return client.WriteAt(w.ctx, content("served again"), 8192, false) == nil
		})
		w.verb(w.alice, "attach")
		w.wait(w.alice, "UpToDate again", disk("UpToDate"))
		client.Close()
		w.equal()
		w.holds(w.alice, 2, "served again")
	})
	t.Run("suspend-io", func(t *testing.T) {
		w := begin(t, pair.Options{ResourceOptions: []string{"on-no-data-accessible suspend-io"}})
		w.verb(w.alice, "detach")
		w.write(w.alice, 1, 1, "detached")
		if err := w.bob.Kill(); err != nil {
			t.Fatal(err)
		}
		client, err := w.alice.Open(w.ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		written := make(chan error, 1)
		go func() { written <- client.WriteAt(w.ctx, content("it waited"), 3*4096, false) }()
		w.wait(w.alice, "suspended", func(s pair.Status) bool { return strings.Contains(w.verb(w.alice, "status"), "suspended:no-data") })
		select {
		case err := <-written:
			t.Fatalf("the write did not wait: %v", err)
		default:
		}
		if err := w.bob.Start(w.ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.bob.Up(w.ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		w.holds(w.bob, 3, "it waited")
		w.verb(w.alice, "attach")
		w.wait(w.alice, "UpToDate again", disk("UpToDate"))
		w.write(w.alice, 4, 1, "home")
		client.Close()
		w.equal()
		w.holds(w.alice, 3, "it waited")
	})
}

// TestDisklessPromotion: a node without a disk is Primary on its peer's data; when the peer was Primary meanwhile, it does not go on as if
// nothing had happened.
func TestDisklessPromotion(t *testing.T) {
	w := begin(t, pair.Options{})
	w.write(w.alice, 1, 1, "both have this")
	w.verb(w.bob, "detach")
	if err := w.alice.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wait(w.bob, "connected again", pair.Status.Connected)
	w.verb(w.bob, "primary")
	w.write(w.bob, 2, 1, "bob has no disk")
	w.holds(w.alice, 2, "bob has no disk")
	w.refused(w.alice, "bob is Primary", "primary")

	w.verb(w.alice, "disconnect")
	w.verb(w.alice, "primary")
	w.write(w.alice, 3, 1, "alice on her own")
	if err := w.alice.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.verb(w.alice, "connect")
	w.wait(w.bob, "connected", pair.Status.Connected)
	if client, err := w.bob.Open(w.ctx, 0); err == nil {
		defer client.Close()
		if err := client.ReadAt(w.ctx, make([]byte, 4096), 3*4096); err == nil {
			t.Fatal("bob reads data that is not what its clients know")
		}
		client.Close()
	}
	if err := w.bob.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.verb(w.bob, "attach")
	w.equal()
	w.holds(w.bob, 2, "bob has no disk")
	w.holds(w.bob, 3, "alice on her own")
}
