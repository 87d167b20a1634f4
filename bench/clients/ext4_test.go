package clients

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// ext4 makes a file system on alice's export, by way of FUSE and a loop device, and copies a source tree into it.
func ext4(ctx context.Context, t *testing.T, alice *pair.Node) {
	nbdfuse := pairtest.Tool(t, "nbdfuse", "libnbd-bin")
	mkfs := pairtest.Tool(t, "mkfs.ext4", "e2fsprogs")
	losetup, mount, umount := pairtest.Tool(t, "losetup", "mount"), pairtest.Tool(t, "mount", "mount"), pairtest.Tool(t, "umount", "mount")
	fusermount := pairtest.Tool(t, "fusermount3", "fuse3")
	needs(t)
	dir := t.TempDir()
	file, unserve := serveFile(ctx, t, nbdfuse, fusermount, filepath.Join(dir, "fuse"), alice)
	loop := strings.TrimSpace(pairtest.Run(ctx, t, losetup, "--find", "--show", file))
	detach := undo(t, losetup, "--detach", loop)
	pairtest.Run(ctx, t, mkfs, "-q", "-F", "-E", "lazy_itable_init=0", loop)
	target := filepath.Join(dir, "mnt")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	pairtest.Run(ctx, t, mount, loop, target)
	unmount := undo(t, umount, target)
	root := strings.TrimSpace(pairtest.Run(ctx, t, "go", "env", "GOROOT"))
	if err := os.CopyFS(filepath.Join(target, "src"), os.DirFS(filepath.Join(root, "src", "net"))); err != nil {
		t.Fatal(err)
	}
	if err := fs.WalkDir(os.DirFS(target), "src/http/internal", remove(target)); err != nil {
		t.Fatal(err)
	}
	unmount()
	detach()
	unserve()
}

// remove deletes files, so that the file system frees blocks as well.
func remove(root string) fs.WalkDirFunc {
	return func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Remove(filepath.Join(root, path))
	}
}

func needs(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, dev := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(dev); err != nil {
			t.Skipf("this machine has no %s", dev)
		}
	}
}

// undo returns a function that runs a command once; a test that fails before runs it at its end.
func undo(t *testing.T, tool string, args ...string) func() {
	run := sync.OnceFunc(func() {
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
		}
	})
	t.Cleanup(run)
	return run
}

// serveFile shows the export as a file by nbdfuse, until the returned function is called or the test ends.
func serveFile(ctx context.Context, t *testing.T, nbdfuse, fusermount, dir string, n *pair.Node) (string, func()) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, nbdfuse, dir, n.URI(0))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		if out, err := exec.Command(fusermount, "-u", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount nbdfuse: %v\n%s", err, out)
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	file := filepath.Join(dir, "nbd")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if st, err := os.Stat(file); err == nil && st.Size() == volumeSize {
			return file, end
		}
		select {
		case <-ctx.Done():
			t.Fatal("nbdfuse shows no file")
		case <-tick.C:
		}
	}
}

// checkExt4 runs a full check of the file system on the replica.
func checkExt4(ctx context.Context, t *testing.T, n *pair.Node) {
	t.Helper()
	e2fsck, nbdcopy := pairtest.Tool(t, "e2fsck", "e2fsprogs"), pairtest.Tool(t, "nbdcopy", "libnbd-bin")
	replica := filepath.Join(t.TempDir(), "replica.img")
	pairtest.Run(ctx, t, nbdcopy, n.URI(0), replica)
	pairtest.Run(ctx, t, e2fsck, "-f", "-n", replica)
}
