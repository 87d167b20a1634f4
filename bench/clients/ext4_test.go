package clients

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drship/bench/device"
	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// ext4 makes a file system on alice's export, by way of FUSE and a loop device, and copies a source tree into it.
func ext4(ctx context.Context, t *testing.T, alice *pair.Node) {
	pairtest.Tool(t, "nbdfuse", "libnbd-bin")
	pairtest.Tool(t, "mkfs.ext4", "e2fsprogs")
	pairtest.Tool(t, "losetup", "mount")
	pairtest.Tool(t, "fusermount3", "fuse3")
	if err := device.Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	s, err := device.Open(ctx, filepath.Join(dir, "fuse"), alice.URI(0), volumeSize)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	target := filepath.Join(dir, "mnt")
	loop, err := s.Loop(ctx, 0, volumeSize)
	if err == nil {
		err = device.Format(ctx, loop)
	}
	if err == nil {
		err = s.Mount(ctx, loop, target)
	}
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(pairtest.Run(ctx, t, "go", "env", "GOROOT"))
	if err := os.CopyFS(filepath.Join(target, "src"), os.DirFS(filepath.Join(root, "src", "net"))); err != nil {
		t.Fatal(err)
	}
	if err := fs.WalkDir(os.DirFS(target), "src/http/internal", remove(target)); err != nil {
		t.Fatal(err)
	}
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

// checkExt4 runs a full check of the file system on the replica.
func checkExt4(ctx context.Context, t *testing.T, n *pair.Node) {
	t.Helper()
	e2fsck, nbdcopy := pairtest.Tool(t, "e2fsck", "e2fsprogs"), pairtest.Tool(t, "nbdcopy", "libnbd-bin")
	replica := filepath.Join(t.TempDir(), "replica.img")
	pairtest.Run(ctx, t, nbdcopy, n.URI(0), replica)
	pairtest.Run(ctx, t, e2fsck, "-f", "-n", replica)
}
