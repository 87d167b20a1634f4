package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"drship/bench/pair"
	"drship/internal/digest"
)

const (
	compareSize    = 1 << 30   // of the volumes that are compared, all of it allocated
	scatterSize    = 10 << 30  // of the volume in which blocks are scattered
	scatterBytes   = 200 << 20 // of these blocks, in all
	comparePatient = 10 * time.Minute
)

// compared are the digests that are measured.
var compared = []string{"crc32c", "sha1", "sha256"}

// digests measures online verify and a resync by csums between disks that are equal, beside what one core can hash and one disk can
// read, in the same minute: what they would take if nothing else cost anything.
func (b *bench) digests(ctx context.Context) error {
	fmt.Printf("\n## comparing %d MiB that are equal, loopback, no limit; both sides share the %d processors and the disk\n\n", compareSize>>20, processors())
	fmt.Printf("%-8s %12s %12s %12s %12s   %s\n", "digest", "disk reads", "core hashes", "verify", "csums", "verify and csums to the slower of the two")
	for _, alg := range compared {
		var read, hash, verify, csums []float64
		for round := range b.rounds {
			m, err := b.compareDisks(ctx, filepath.Join(b.dir, fmt.Sprintf("digests-%s-%d", alg, round)), alg)
			if err != nil {
				return fmt.Errorf("compare by %s: %w", alg, err)
			}
			read, hash, verify, csums = append(read, m.read), append(hash, m.hash), append(verify, m.verify), append(csums, m.csums)
		}
		bound := min(middle(read), middle(hash))
		fmt.Printf("%-8s %7.0f MB/s %7.0f MB/s %7.0f MB/s %7.0f MB/s   %.2f %.2f\n", alg,
			middle(read)/1e6, middle(hash)/1e6, middle(verify)/1e6, middle(csums)/1e6, middle(verify)/bound, middle(csums)/bound)
	}
	return nil
}

// comparison is in bytes a second.
type comparison struct{ read, hash, verify, csums float64 }

func (b *bench) compareDisks(ctx context.Context, dir, alg string) (m comparison, err error) {
	ctx, cancel := context.WithTimeout(ctx, comparePatient)
	defer cancel()
	image := func(node string) string { return filepath.Join(dir, node, "disk.img") }
	for _, node := range []string{"alice", "bob"} {
		if err := fill(image(node), compareSize, true); err != nil {
			return m, err
		}
	}
	p, err := pair.New(pair.Options{Binary: b.binary, Dir: dir, Protocol: "A", Sizes: []int64{compareSize}, Disk: []string{"resync-rate 4G"},
		Net:     []string{"verify-alg " + alg, "csums-alg " + alg, "verify-rate 4G"},
		Backing: func(node string, _ int) string { return image(node) }})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.Close(), p.Remove()) }()
	alice, bob := p.Node("alice"), p.Node("bob")
	if err := p.Create(ctx); err != nil {
		return m, err
	}
	if err := p.DeclareEqual(ctx); err != nil {
		return m, err
	}
	if err := errors.Join(alice.Promote(ctx), p.WaitUpToDate(ctx)); err != nil {
		return m, err
	}
	if m.read, err = readRate(image("alice")); err != nil {
		return m, err
	}
	if m.hash, err = hashRate(alg); err != nil {
		return m, err
	}
	if m.verify, err = verifyRate(ctx, alice, image("alice"), image("bob")); err != nil {
		return m, err
	}
	m.csums, err = csumsRate(ctx, p, bob, image("alice"), image("bob"))
	return m, err
}

// verifyRate runs one verify and takes its rate from its report.
func verifyRate(ctx context.Context, alice *pair.Node, images ...string) (float64, error) {
	if err := cold(images...); err != nil {
		return 0, err
	}
	if _, err := alice.Verb(ctx, "verify", pair.Resource); err != nil {
		return 0, err
	}
	var report struct {
		Runs []struct {
			State  string `json:"state"`
			Rate   int64  `json:"rate"`
			Differ int    `json:"differing-blocks"`
		} `json:"runs"`
	}
	_, err := alice.Wait(ctx, "the end of the verify", func(pair.Status) bool {
		out, err := alice.Verb(ctx, "verify", "--report", "--json", pair.Resource)
		return err == nil && json.Unmarshal([]byte(out), &report) == nil && len(report.Runs) > 0 && report.Runs[0].State != "running"
	})
	if err != nil {
		return 0, err
	}
	if r := report.Runs[0]; r.State != "done" || r.Differ != 0 {
		return 0, fmt.Errorf("verify ended as %s with %d differences", r.State, r.Differ)
	}
	return float64(report.Runs[0].Rate), nil
}

// csumsRate has everything compared by a resync.
func csumsRate(ctx context.Context, p *pair.Pair, bob *pair.Node, images ...string) (float64, error) {
	if err := cold(images...); err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := bob.Verb(ctx, "invalidate", pair.Resource); err != nil {
		return 0, err
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		return 0, err
	}
	return compareSize / time.Since(begin).Seconds(), nil
}

// cold drops files from the page cache, once what is in it has been written.
func cold(paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
		if err != nil {
			return fmt.Errorf("drop %s from the page cache: %w", path, err)
		}
	}
	return nil
}

// readRate reads a file from the disk, from its beginning to its end.
func readRate(path string) (float64, error) {
	if err := cold(path); err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	begin := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return float64(n) / time.Since(begin).Seconds(), err
}

// hashRate is what one core hashes, block by block, from memory.
func hashRate(name string) (float64, error) {
	alg, err := digest.Parse(name)
	if err != nil {
		return 0, err
	}
	buf, sum := make([]byte, 1<<20), make([]byte, 0, digest.MaxSize)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(buf) // never fails
	begin, n := time.Now(), 0
	for time.Since(begin) < time.Second {
		for off := 0; off < len(buf); off += 4096 {
			sum = alg.Sum(sum[:0], buf[off:off+4096])
		}
		n += len(buf)
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
