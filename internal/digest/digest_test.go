package digest

import (
	"encoding/hex"
	"strings"
	"testing"
)

// The published test vectors of each algorithm for "abc" or, where those are customary, "123456789".
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		alg      Alg
		in, want string
	}{
		{CRC32C, "123456789", "e3069283"},
		{MD5, "abc", "900150983cd24fb0d6963f7d28e17f72"},
		{SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{SHA512, "abc", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{XXH3, "", "2d06800538d394c2"},
		{BLAKE3, "", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
		{None, "abc", ""},
	} {
		got := c.alg.Sum([]byte{0xff}, []byte(c.in))
		if got[0] != 0xff || hex.EncodeToString(got[1:]) != c.want {
			t.Errorf("%v(%q) = %x, want ff%s", c.alg, c.in, got, c.want)
		}
		if len(got)-1 != c.alg.Size() {
			t.Errorf("%v: size %d, digest has %d bytes", c.alg, c.alg.Size(), len(got)-1)
		}
	}
}

func TestNames(t *testing.T) {
	for _, n := range Names() {
		a, err := Parse(n)
		if err != nil || a.String() != n || !a.Valid() {
			t.Errorf("Parse(%q) = %v, %v", n, a, err)
		}
		if s := a.Size(); s <= 0 || s > MaxSize {
			t.Errorf("%s: size %d", n, s)
		}
	}
	if a, err := Parse(""); err != nil || a != None {
		t.Errorf("Parse of nothing = %v, %v", a, err)
	}
	_, err := Parse("crc32")
	if err == nil || !strings.Contains(err.Error(), "crc32c, md5") {
		t.Errorf("Parse of an unknown name: %v", err)
	}
	if a := Alg(8); a.Valid() || a.Size() != 0 || a.String() != "digest(8)" {
		t.Errorf("value 8: valid %v size %d %q", a.Valid(), a.Size(), a.String())
	}
}

func TestSumAllocatesNothing(t *testing.T) {
	data := make([]byte, 4096)
	buf := make([]byte, 0, MaxSize)
	for a := CRC32C; a.Valid(); a++ {
		if n := testing.AllocsPerRun(50, func() { buf = a.Sum(buf[:0], data) }); n != 0 {
			t.Errorf("%v: %v allocations", a, n)
		}
	}
}

func BenchmarkSum4K(b *testing.B) {
	data := make([]byte, 4096)
	for a := CRC32C; a.Valid(); a++ {
		b.Run(a.String(), func(b *testing.B) {
			buf := make([]byte, 0, MaxSize)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				buf = a.Sum(buf[:0], data)
			}
		})
	}
}
