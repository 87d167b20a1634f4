package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"drship/bench/pair"
	"drship/bench/stamp"
)

const (
	chunk    = 256 << 10 // of the input, per request
	depth    = 16        // requests of the copy in flight
	scribble = 64 << 20  // bytes behind the input that the other writes go to
	slack    = 64 << 20
	patience = 3 * time.Minute
)

// initialSync brings the pair up and draws the progress of its first resync.
func (d *demo) initialSync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.pair.Create(ctx); err != nil {
		return err
	}
	alice, start := d.pair.Node("alice"), time.Now()
	total := d.pair.Size(0)
	b := newBar(d.out, "initial sync", total)
	if _, err := alice.Verb(ctx, "primary", "--force", pair.Resource); err != nil {
		return err
	}
	_, err := alice.Wait(ctx, "the initial sync", func(s pair.Status) bool {
		if s.InSync() {
			b.at(total)
			return true
		}
		if s.Replication() == "SyncSource" {
			b.at(max(total-int64(s.OutOfSync())<<10, 0))
		}
		return false
	})
	d.table.row("initial sync", "%s in %s", bytesText(total), millis(time.Since(start)))
	return err
}

// writes is what the client did until alice died.
type writes struct {
	ops    []stamp.Op
	killed time.Time
	wire   int64 // bytes that bob received meanwhile
}

// mainJob is everything behind the initial sync.
func (d *demo) mainJob(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	alice, bob := d.pair.Node("alice"), d.pair.Node("bob")
	w, err := d.copyAndKill(ctx, alice, bob)
	if err != nil {
		return err
	}
	if err := bob.Promote(ctx); err != nil {
		return fmt.Errorf("promote bob: %w", err)
	}
	promote := time.Since(w.killed)
	d.say("bob is Primary; reading his volume back")
	report, err := d.compare(ctx, bob, w.ops)
	if err != nil {
		return err
	}
	catchUp, err := d.comeBack(ctx, alice, bob)
	if err != nil {
		return err
	}
	d.fill(w, report, promote, catchUp)
	return nil
}

// copyAndKill copies the input while other writes go on, and kills alice half way.
func (d *demo) copyAndKill(ctx context.Context, alice, bob *pair.Node) (writes, error) {
	before, err := bob.Status(ctx)
	if err != nil {
		return writes{}, err
	}
	x, err := alice.Open(ctx, 0)
	if err != nil {
		return writes{}, err
	}
	defer x.Close()
	log := stamp.NewLog(1)
	skip := roundUp(d.input.size, 1<<20)
	others := stamp.Mixed(stamp.Load{
		Targets: []stamp.Target{x}, Skip: skip, Size: skip + scribble, Writers: 4, Seed: 1, Log: log,
	})
	var w writes
	var after pair.Status
	kill := sync.OnceValue(func() (err error) {
		after, err = bob.Status(ctx) // while they are connected: a session's counters go with it
		w.killed = time.Now()
		return errors.Join(err, alice.Kill())
	})
	d.say("copying the input through alice's export, with other writes beside it; kill -9 alice half way")
	var wg sync.WaitGroup
	var copyErr error
	wg.Go(func() { _ = others.Run(ctx) }) // ends with the connection
	wg.Go(func() { copyErr = d.copyIn(ctx, x, log, kill) })
	wg.Wait()
	if copyErr != nil {
		return w, fmt.Errorf("copy the input: %w", copyErr)
	}
	if err := kill(); err != nil {
		return w, fmt.Errorf("kill alice: %w", err)
	}
	w.ops, w.wire = log.Ops(), after.Received()-before.Received()
	return w, nil
}

// copyIn writes the input in order, several chunks in flight, and calls kill when half of it was acknowledged. It ends with the
// connection.
func (d *demo) copyIn(ctx context.Context, x *pair.Volume, log *stamp.Log, kill func() error) error {
	var next, done atomic.Int64
	errs := make([]error, depth)
	var wg sync.WaitGroup
	for i := range depth {
		wg.Go(func() {
			buf := make([]byte, chunk)
			for {
				off := next.Add(chunk) - chunk
				if off >= d.input.size {
					return
				}
				n, err := d.input.ReadAt(buf, off)
				if err != nil && !errors.Is(err, io.EOF) {
					errs[i] = err
					return
				}
				size := roundUp(int64(n), 4096)
				clear(buf[n:size])
				id := log.Begin(stamp.Op{Kind: stamp.Source, Cell: off / stamp.CellSize, Cells: size / stamp.CellSize})
				err = x.WriteAt(ctx, buf[:size], off, false)
				log.End(id, err)
				if err != nil {
					return // alice is dead
				}
				if done.Add(size) >= d.input.size/2 {
					errs[i] = kill()
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// compare reads bob's volume back and holds it against the log.
func (d *demo) compare(ctx context.Context, bob *pair.Node, ops []stamp.Op) (*stamp.Report, error) {
	x, err := bob.Open(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	c := stamp.CheckOptions{Size: d.pair.Size(0), Source: d.input, Prefix: true}
	if d.protocol != "A" {
		c.Must = func(o *stamp.Op) bool { return o.Done != 0 }
	}
	report, err := stamp.Check(ops, []stamp.Image{x.ReaderAt(ctx)}, c)
	if err != nil {
		return nil, err
	}
	if err := report.Err(); err != nil {
		return nil, fmt.Errorf("bob's volume breaks a promise: %w", err)
	}
	return report, nil
}

// comeBack starts alice again and waits until her disk equals bob's.
func (d *demo) comeBack(ctx context.Context, alice, bob *pair.Node) (time.Duration, error) {
	d.say("starting alice again, as Secondary")
	start := time.Now()
	if err := alice.Start(ctx); err != nil {
		return 0, err
	}
	if err := alice.Up(ctx); err != nil {
		return 0, err
	}
	if err := d.pair.WaitUpToDate(ctx); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if _, err := alice.Wait(ctx, "equal disks", func(pair.Status) bool {
		same, err := equalFiles(alice.Backing(0), bob.Backing(0))
		return err == nil && same
	}); err != nil {
		return 0, err
	}
	return took, nil
}

func equalFiles(a, b string) (bool, error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errF := io.ReadFull(f, p)
		m, errG := io.ReadFull(g, q)
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if errF != nil || errG != nil {
			ended := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
			return ended(errF) && ended(errG), nil
		}
	}
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// fill writes the table.
func (d *demo) fill(w writes, report *stamp.Report, promote, catchUp time.Duration) {
	var written int64
	acknowledged := 0
	for i := range w.ops {
		o := &w.ops[i]
		if o.Done == 0 || o.Kind == stamp.Flush {
			continue
		}
		acknowledged++
		if o.Kind == stamp.Write || o.Kind == stamp.Source {
			written += o.Bytes()
		}
	}
	var behind time.Duration
	for _, o := range report.Missing {
		behind = max(behind, w.killed.Sub(o.At))
	}
	d.table.row("written by clients before the kill", "%s in %d acknowledged requests", bytesText(written), acknowledged)
	if w.wire > 0 {
		d.table.row("on the wire meanwhile", "%s, %.2f× less than was written", bytesText(w.wire), float64(written)/float64(w.wire))
	}
	d.table.row("lag at the kill", "%s, %s in %d writes", millis(behind), bytesText(report.MissingBytes()), len(report.Missing))
	d.table.row("time to promote bob, from the kill on", "%s", millis(promote))
	d.table.row("time to catch alice up, from her start on", "%s", millis(catchUp))
	result := "bob held a prefix of alice's write order"
	if len(report.Missing) == 0 {
		result = "bob held everything that alice had acknowledged"
	}
	d.table.row("result", "%s; both disks are equal again", result)
}
