package discard

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"drship/internal/block"
)

func sample() Header {
	return Header{Resource: "r0", Node: "bob", Peer: "alice", At: time.Unix(1700000000, 5).UTC(), Reason: "split brain", Volumes: []Volume{{0, 8 << 20}, {3, 5000}}}
}

func images() []Image {
	return []Image{
		{Volume: 0, Block: 0, Data: bytes.Repeat([]byte("a"), block.Size)},
		{Volume: 0, Block: 77},
		{Volume: 3, Block: 1, Data: []byte("the short last block")},
	}
}

func encode(t testing.TB) []byte {
	var b bytes.Buffer
	w, err := NewWriter(&b, sample())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range images() {
		if err := w.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// decode reads a whole file.
func decode(raw []byte) (h Header, all []Image, err error) {
	r, err := NewReader(bytes.NewReader(raw))
	if err != nil {
		return h, nil, err
	}
	defer r.Close()
	for {
		m, err := r.Next()
		if err == io.EOF {
			return r.Header, all, nil
		}
		if err != nil {
			return r.Header, all, err
		}
		m.Data = bytes.Clone(m.Data)
		if len(m.Data) == 0 {
			m.Data = nil
		}
		all = append(all, m)
	}
}

func TestRoundTrip(t *testing.T) {
	h, all, err := decode(encode(t))
	if err != nil || !reflect.DeepEqual(h, sample()) || !reflect.DeepEqual(all, images()) {
		t.Fatalf("%+v, %d images, %v", h, len(all), err)
	}
	w, err := NewWriter(io.Discard, sample())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(Image{Data: make([]byte, block.Size+1)}); err == nil {
		t.Error("a block that is too long was taken")
	}
}

// A file that was cut anywhere, or has a bit turned, is refused: nobody takes half of what was lost for all of it.
func TestDamageIsSeen(t *testing.T) {
	good := encode(t)
	for n := range good {
		if _, _, err := decode(good[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut at %d of %d: %v", n, len(good), err)
		}
		bad := bytes.Clone(good)
		bad[n] ^= 4
		h, all, err := decode(bad)
		if err == nil && !(reflect.DeepEqual(h, sample()) && reflect.DeepEqual(all, images())) {
			t.Fatalf("byte %d turned: read without an error, and wrong", n)
		}
	}
	if _, _, err := decode(append(good, "more"...)); err == nil {
		t.Error("something behind the end was not seen")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(encode(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, all, err := decode(raw)
		for _, m := range all {
			if len(m.Data) > block.Size || m.Block > 1<<50 {
				t.Fatalf("block %d of %d bytes, %v", m.Block, len(m.Data), err)
			}
		}
	})
}
