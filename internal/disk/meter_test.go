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
