package compat

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const (
	adoptedDisk = 128 << 20
	agreed      = 204800 * 512 // what the two sides of the adopted pair agreed on, bytes
	differs     = 184 * 4096   // eight blocks from here on are out of sync, and one at 128 × 4096
)

// drbdDisk makes a backing file end as drbdmeta left one (internal/drbdmd/testdata), changed by change.
func drbdDisk(t *testing.T, path string, change func(tail []byte)) {
	t.Helper()
	f, err := os.Open("../../internal/drbdmd/testdata/v08-tail.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	change(tail)
	d, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.WriteAt(tail, adoptedDisk-int64(len(tail)))
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
}

// Of a DRBD pair one side went on alone and wrote nine blocks, then both were taken down. They move to drship: what is sent is those blocks.
func TestAdoptsADRBDPair(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{adoptedDisk}, Net: pair.QuickTiming()})
	alice, bob := s.p.Node("alice"), s.p.Node("bob")
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", alice.Backing(0), "100M").CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4 (Debian package e2fsprogs): %v\n%s", err, out)
	}
	image := pairtest.Disk(t, alice)
	if err := os.WriteFile(bob.Backing(0), image, 0o600); err != nil {
		t.Fatal(err)
	}
	drbdDisk(t, alice.Backing(0), func([]byte) {})
	drbdDisk(t, bob.Backing(0), func(tail []byte) {
		super := tail[len(tail)-4096:]
		bitmap := len(tail) - 4096 + int(int32(binary.BigEndian.Uint32(super[76:])))*512
		clear(tail[bitmap : bitmap+4096])
		binary.BigEndian.PutUint64(super[8:], 0x1111111111111110) // the generation that alice's bitmap is counted from
		binary.BigEndian.PutUint64(super[16:], 0)
	})
	news := bytes.Repeat([]byte("written while bob was away. "), 1000)
	d, err := os.OpenFile(alice.Backing(0), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.WriteAt(news, differs)
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, []step{
		{"alice", "drbdadm create-md r0", 40, `^There appears to be a v08 flexible-size internal meta data block\nalready in place on \S+ at byte offset 134213632\nOperation refused\.\n(?s).*--adopt.*exited with code 40\n$`},
		{"alice", "drbdadm create-md --adopt r0", 0, `^Found ext4 filesystem on \S+, kept in place\nFound a v08 .* taken over: 104857600 bytes, UpToDate, 36 KiB out of sync\n(?s).*successfully created\.\n$`},
		{"bob", "drbdmeta --adopt 0 v08 /dev/x internal create-md", 0, `taken over: 104857600 bytes, UpToDate, 0 KiB out of sync`},
		{"alice", "drbdadm get-gi r0", 0, `^2CC51FDC765D6190:1111111111111110:4FE0DBE74A8BC653:4FDFDBE74A8BC653:1:1:0:0:0:0:0\n$`},
		{"alice", "drbdadm up r0", 0, `^$`},
		{"bob", "drbdadm up r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----\n    ns:36 `},
	})
	got, want := pairtest.Disk(t, bob), pairtest.Disk(t, alice)
	if !bytes.Equal(got[:agreed], want[:agreed]) {
		t.Error("the sides differ after the resync")
	}
	// With --force the whole disk is used, and what DRBD knew is forgotten.
	s.replay(ctx, []step{
		{"bob", "drbdadm down r0", 0, `^$`},
		{"bob", "drbdadm -- --force create-md r0", 0, `(?s)kept in place.*successfully created\.\n$`},
		{"bob", "drbdadm get-gi r0", 0, `^0000000000000004:0{16}:0{16}:0{16}:0:0:0:0:0:0:0\n$`},
	})
}
