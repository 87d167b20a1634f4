package journal

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
)

// openMem opens a store on fsys and closes it at the end of the test.
func openMem(t testing.TB, fsys vfs.FS, o Options) *Store {
	t.Helper()
	o.FS = fsys
	s, err := Open("r0", o)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && err != ErrClosed {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}

// seeded returns a generator and logs its seed when the test fails.
func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// crash is what a power loss leaves of fsys: everything synced, and of the rest each block with a chance of percent.
func crash(fsys *vfs.MemFS, percent int, rng *rand.Rand) *vfs.MemFS {
	return fsys.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
}

// payload is n bytes that tell their number.
func payload(num uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(num, 7))
	p := make([]byte, n, n+8)
	for i := 0; i < n; i += 8 {
		le.PutUint64(p[i:i+8], rng.Uint64())
	}
	return p
}

// record makes a write of n bytes whose content and place follow from num.
func record(num uint64, n int) *block.Record {
	return &block.Record{
		Time: int64(num) * 1000, Volume: uint16(num % 3), Kind: block.Write,
		Off: int64(num%1000) * block.Size, Len: uint32(n), Data: payload(num, n),
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
