package splitbrain

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"drship/bench/pair"
)

// smallDisk mounts a file system that is smaller than the backing file on it may grow: a disk whose writes fail beyond a point. grow
// mends it.
func smallDisk(t *testing.T) (dir string, grow func()) {
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a file system to fill needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, func() {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSecondaryDiskFails: the Secondary detaches and says so, the Primary's clients notice nothing, and what was written meanwhile follows
// once the disk is back.
func TestSecondaryDiskFails(t *testing.T) {
	for _, c := range []struct{ name, policy, event string }{
		{"detach", "on-io-error detach", ""},
		{"handler", "on-io-error call-local-io-error", "bob local-io-error alice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, grow := smallDisk(t)
			w := begin(t, pair.Options{Disk: []string{c.policy}, Backing: func(node string, _ int) string {
				if node == "bob" {
					return filepath.Join(dir, "vol0.img")
				}
				return filepath.Join(filepath.Dir(dir), "alice.img")
			}}, "local-io-error")
			w.write(w.alice, 0, 1024, "more than bob's disk takes")
			w.wait(w.alice, "peer Diskless", func(s pair.Status) bool {
				return s.Connections[0].State == "Connected" && s.Connections[0].Peers[0].Disk == "Diskless"
			})
			w.write(w.alice, 1024, 64, "while bob has no disk")
			w.wait(w.bob, "Diskless", func(s pair.Status) bool { return s.Devices[0].Disk == "Diskless" })
			if c.event != "" {
				w.ran(c.event)
			} else if strings.Contains(w.noted(), "local-io-error") {
				t.Error("detach ran the handler of call-local-io-error")
			}
			grow()
			w.verb(w.bob, "attach")
			w.equal()
			w.holds(w.bob, 1023, "more than bob's disk takes")
			w.holds(w.bob, 1087, "while bob has no disk")
		})
	}
}

// TestHandlersOfLimits: lag and silence beyond the configured limits call their handlers, once.
func TestHandlersOfLimits(t *testing.T) {
	w := begin(t, pair.Options{Protocol: "A", WAN: []string{"lag-limit 1", "peer-silent 2"}}, "lag-exceeded", "peer-silent")
	if err := w.bob.Kill(); err != nil {
		t.Fatal(err)
	}
	w.write(w.alice, 0, 1, "unsent")
	w.ran("alice lag-exceeded bob", "alice peer-silent bob")
	if err := w.bob.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.bob.Up(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.equal()
	if n := strings.Count(w.noted(), "lag-exceeded"); n != 1 {
		t.Errorf("lag-exceeded ran %d times", n)
	}
}

// TestBecomePrimaryOn: the node that the configuration names is Primary after its start, with its peer or after the time to wait for it.
func TestBecomePrimaryOn(t *testing.T) {
	w := begin(t, pair.Options{Startup: []string{"become-primary-on alice", "wfc-timeout 2", "degr-wfc-timeout 2"}})
	primary := func(s pair.Status) bool { return s.Role == "Primary" }
	if err := w.alice.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wait(w.alice, "Primary again", primary)
	w.wait(w.alice, "with its peer", pair.Status.Connected)
	if err := w.bob.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wait(w.alice, "Primary without its peer", primary)
	log, err := os.ReadFile(w.alice.LogPath())
	if err != nil || !strings.Contains(string(log), "peers did not come in time") {
		t.Errorf("alice did not wait for her peer (%v)", err)
	}
}
