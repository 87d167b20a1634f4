package disk

import (
	"testing"
	"testing/synctest"
	"time"
)

// slow is a disk with a rate.
type slow struct {
	Disk
	read, write float64 // bytes a second
}

func (d slow) ReadAt(p []byte, off int64) error {
	time.Sleep(time.Duration(float64(len(p)) / d.read * float64(time.Second)))
	return d.Disk.ReadAt(p, off)
}

func (d slow) WriteAt(p []byte, off int64) error {
	time.Sleep(time.Duration(float64(len(p)) / d.write * float64(time.Second)))
	return d.Disk.WriteAt(p, off)
}

func TestMeterMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := Metered(slow{NewMem(128<<20, 1), 200e6, 80e6})
		if m.Rate() != 0 {
			t.Fatalf("a rate of %d before anything was seen", m.Rate())
		}
		buf := make([]byte, 1<<20)
		for i := range int64(128) {
			if err := m.Disk.(slow).Disk.WriteAt(buf, i<<20); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if err := m.Probe(200 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("the probe took %v", took)
		}
		if r := m.Rate(); r < 190e6 || r > 210e6 {
			t.Fatalf("a disk that reads 200 MB/s counts as %d", r)
		}
		for i := range int64(8) {
			if err := m.WriteAt(buf, i<<20); err != nil {
				t.Fatal(err)
			}
		}
		if r := m.Rate(); r < 75e6 || r > 85e6 {
			t.Fatalf("a disk that writes 80 MB/s counts as %d", r)
		}
		small := make([]byte, 4096)
		for range 100 { // latency is not rate
			if err := m.ReadAt(small, 0); err != nil {
				t.Fatal(err)
			}
		}
		if r := m.Rate(); r < 75e6 || r > 85e6 {
			t.Fatalf("small requests moved the rate to %d", r)
		}
	})
}

// lazy takes writes into memory and carries them at its rate in a sync.
type lazy struct {
	Disk
	rate    float64 // bytes a second
	pending *int
}

func (d lazy) WriteAt(p []byte, off int64) error {
	*d.pending += len(p)
	return d.Disk.WriteAt(p, off)
}

func (d lazy) Sync() error {
	time.Sleep(5*time.Millisecond + time.Duration(float64(*d.pending)/d.rate*float64(time.Second)))
	*d.pending = 0
	return d.Disk.Sync()
}

// What is written to memory only tells nothing of the disk before its sync; a sync that has little to carry tells of latency.
func TestMeterCountsSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := Metered(lazy{NewMem(128<<20, 1), 80e6, new(int)})
		write := func(n int) {
			for off := range int64(n) {
				if err := m.WriteAt(make([]byte, 1<<20), off<<20); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		write(32)
		if r := m.Rate(); r < 75e6 || r > 82e6 {
			t.Fatalf("a disk that carries 80 MB/s counts as %d", r)
		}
		before := m.Rate()
		for range 20 {
			if err := m.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if r := m.Rate(); r != before {
			t.Fatalf("syncs without data moved the rate from %d to %d", before, r)
		}
	})
}
