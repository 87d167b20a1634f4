package clients

import (
	"bytes"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// A resource without a peer serves its clients, also after a crash and a start of its own.
func TestWithoutAPeer(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.New(t, pair.Options{Nodes: []string{"alice"}, Sizes: []int64{16 << 20}})
	alice := p.Node("alice")
	if err := p.Create(ctx); err != nil {
		t.Fatal(err)
	}
	if err := alice.Promote(ctx, "--force"); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("alone..."), 512)
	for round := range 2 {
		v, err := alice.Open(ctx, 0)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		got := make([]byte, len(want))
		if round == 0 {
			err = v.WriteAt(ctx, want, 8192, true)
		} else if err = v.ReadAt(ctx, got, 8192); err == nil && !bytes.Equal(got, want) {
			t.Error("what was written is not there after a crash")
		}
		if err != nil {
			t.Fatal(err)
		}
		v.Close()
		if round > 0 {
			break
		}
		if err := alice.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := alice.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := alice.Promote(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
