package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"time"

	"drship/bench/pair"
)

func processors() int { return runtime.NumCPU() }

// scattered measures what a resync of single blocks costs that are scattered over a volume: how fast, and how much is read and sent for
// each byte that is out of sync.
func (b *bench) scattered(ctx context.Context) (err error) {
	fmt.Printf("\n## resync of %d MiB in blocks of 4 KiB, scattered over %d GiB, loopback, no limit\n\n", scatterBytes>>20, scatterSize>>30)
	ctx, cancel := context.WithTimeout(ctx, comparePatient)
	defer cancel()
	dir := filepath.Join(b.dir, "scattered")
	p, err := pair.New(pair.Options{Binary: b.binary, Dir: dir, Protocol: "A", Sizes: []int64{scatterSize}, Disk: []string{"resync-rate 4G"},
		Journal: []string{"max-size 1M"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(), p.Remove()) }()
	alice, bob := p.Node("alice"), p.Node("bob")
	if err := p.Create(ctx); err != nil {
		return err
	}
	if err := p.Sync(ctx); err != nil {
		return err
	}
	if _, err := bob.Verb(ctx, "disconnect", pair.Resource); err != nil {
		return err
	}
	if err := scatterBlocks(ctx, alice); err != nil {
		return err
	}
	before, err := alice.Status(ctx)
	if err != nil {
		return err
	}
	dirty := float64(before.OutOfSync() << 10)
	pids := []int{alice.PID(), bob.PID()}
	used, err := processorTime(pids)
	if err != nil {
		return err
	}
	begin := time.Now()
	if _, err := bob.Verb(ctx, "connect", pair.Resource); err != nil {
		return err
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		return err
	}
	took := time.Since(begin).Seconds()
	after, err := alice.Status(ctx)
	if err != nil {
		return err
	}
	var sent int64
	for _, c := range after.Connections {
		sent += c.Link.WireSent
	}
	now, err := processorTime(pids)
	if err != nil {
		return err
	}
	fmt.Printf("%.0f MiB out of sync: %.0f MB/s; read %.3f and sent %.3f bytes for each; processor %.0f + %.0f µs a block\n", dirty/(1<<20), dirty/took/1e6,
		(diskRead(after)-diskRead(before))/dirty, float64(sent)/dirty,
		(now[0]-used[0]).Seconds()*1e6*4096/dirty, (now[1]-used[1]).Seconds()*1e6*4096/dirty)
	return nil
}

// diskRead is what the node has read of its disks, in bytes.
func diskRead(s pair.Status) float64 {
	var all []struct {
		Devices []struct {
			Read float64 `json:"read"` // KiB
		} `json:"devices"`
	}
	if json.Unmarshal([]byte(s.String()), &all) != nil || len(all) == 0 || len(all[0].Devices) == 0 {
		return 0
	}
	return all[0].Devices[0].Read * 1024
}

// scatterBlocks writes single blocks all over the volume.
func scatterBlocks(ctx context.Context, n *pair.Node) error {
	v, err := n.Open(ctx, 0)
	if err != nil {
		return err
	}
	defer v.Close()
	rng := rand.NewChaCha8([32]byte{3})
	spots := rand.New(rng)
	buf := make([]byte, 4096)
	for range scatterBytes / 4096 {
		_, _ = rng.Read(buf) // never fails
		if err := v.WriteAt(ctx, buf, spots.Int64N(scatterSize/4096)*4096, false); err != nil {
			return err
		}
	}
	return v.Flush(ctx)
}
