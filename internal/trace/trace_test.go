package trace

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"drship/internal/block"
)

func records() []block.Record {
	return []block.Record{
		{Seq: block.Seq{Epoch: 1, Num: 1}, Time: 5, Kind: block.Write, Off: 4096, Len: 3, Data: []byte("abc")},
		{Seq: block.Seq{Epoch: 1, Num: 2}, Time: 6, Volume: 255, Kind: block.Trim, Off: 1 << 40, Len: 1 << 30},
		{Seq: block.Seq{Epoch: 2, Num: 3}, Time: 7, Kind: block.Zero, Len: 512},
		{Seq: block.Seq{Epoch: 2, Num: 4}, Time: 8, Kind: block.Write, Len: block.MaxRecord, Data: bytes.Repeat([]byte("x"), block.MaxRecord)},
	}
}

func written(t testing.TB, recs []block.Record) []byte {
	var b bytes.Buffer
	w, err := NewWriter(&b, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range recs {
		if err := w.Write(&recs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(file []byte) (recs []block.Record, err error) {
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for range 1 << 16 {
		rec, _, err := r.Read(nil)
		if errors.Is(err, io.EOF) && !errors.Is(err, ErrFormat) {
			return recs, nil
		}
		if err != nil {
			return recs, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	want := records()
	got, err := readAll(written(t, want))
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for i := range want {
		g, w := got[i], want[i]
		if !bytes.Equal(g.Data, w.Data) || g.Seq != w.Seq || g.Time != w.Time || g.Volume != w.Volume || g.Kind != w.Kind || g.Off != w.Off || g.Len != w.Len {
			t.Errorf("record %d: %v, want %v", i, g, w)
		}
	}
}

func TestCutShortIsRefused(t *testing.T) {
	file := written(t, records())
	for _, n := range []int{0, 7, 8, 20, len(file) - 1} {
		if _, err := readAll(file[:n]); !errors.Is(err, ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	order := records()
	order[2].Seq = order[0].Seq
	if _, err := readAll(written(t, order)); !errors.Is(err, ErrFormat) {
		t.Errorf("out of order: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(written(f, records()[:3]))
	f.Fuzz(func(t *testing.T, file []byte) {
		recs, err := readAll(file)
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("an error without a kind: %v", err)
		}
		for i := range recs {
			if r := &recs[i]; r.Kind == block.Write && len(r.Data) != int(r.Len) {
				t.Fatalf("a write of %d bytes with %d", r.Len, len(r.Data))
			}
		}
	})
}
