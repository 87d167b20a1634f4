// Package power is a block device that can lose its power: writes that no flush has reached are lost then, in whole or in part, sector by
// sector, as a seed decides. It is served by NBD on a unix socket, so that nbdfuse and a loop device make a disk of the machine of it
// (bench/device).
//
// A loss of power in the middle of a running system has two sides. What is on the platters is decided at one instant (Cut). What the
// system does until it is gone (write back its caches, unmount) must not reach them: it goes to a copy that is thrown away at On.
package power

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"drship/internal/disk"
	"drship/internal/nbd"
)

// Disk is a running device. Its methods may be called concurrently, but for Cut and On, which belong to one owner.
type Disk struct {
	shown   atomic.Pointer[disk.Mem] // what the system sees
	platter *disk.Mem                // what a cut has left; nil while there is power
	size    int64
	socket  string

	stop   context.CancelFunc
	served chan error
}

// Start serves an empty disk of size bytes on a unix socket. The same seed and the same writes lose the same sectors.
func Start(socket string, size int64, seed uint64) (*Disk, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("serve a disk: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &Disk{size: size, socket: socket, stop: stop, served: make(chan error, 1)}
	d.shown.Store(disk.NewMem(size, seed))
	server := nbd.NewServer(nbd.Config{Directory: d, Logger: slog.New(slog.DiscardHandler)})
	go func() { d.served <- server.Serve(ctx, l) }() // ends with Close, which waits for it
	return d, nil
}

// URI is the disk's address, as nbdfuse takes it.
func (d *Disk) URI() string { return "nbd+unix:///?socket=" + d.socket }

// Cut is the loss of power: what is left is decided now. The system may go on with what it sees, in vain.
func (d *Disk) Cut() {
	if d.platter == nil {
		d.platter = d.shown.Load().CrashClone()
	}
}

// On shows what the cut has left. Nobody may have the disk open.
func (d *Disk) On() {
	if d.platter != nil {
		d.shown.Store(d.platter)
		d.platter = nil
	}
}

// Close ends the server.
func (d *Disk) Close() error {
	d.stop()
	return <-d.served
}

// Open implements nbd.Directory: there is one export, without a name.
func (d *Disk) Open(_ context.Context, name string, _ nbd.Client) (nbd.Export, func(), error) {
	if name != "" {
		return nil, nil, nbd.ErrUnknown
	}
	return export{d}, func() {}, nil
}

// List implements nbd.Directory.
func (d *Disk) List(context.Context) []nbd.Info { return []nbd.Info{{}} }

// export is the disk to the NBD server.
type export struct{ d *Disk }

func (x export) Size() int64                                 { return x.d.size }
func (x export) BlockSizes() (least, preferred, most uint32) { return 1, 4096, nbd.MaxPayload }
func (x export) ReadOnly() bool                              { return false }

func (x export) ReadAt(_ context.Context, p []byte, off int64) error {
	return x.d.shown.Load().ReadAt(p, off)
}

func (x export) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	if err := x.d.shown.Load().WriteAt(p, off); err != nil {
		return err
	}
	return x.flushIf(ctx, fua)
}

func (x export) Zero(ctx context.Context, off, n int64, o nbd.ZeroOptions) error {
	if err := x.d.shown.Load().Zero(off, n, !o.NoHole); err != nil {
		return err
	}
	return x.flushIf(ctx, o.FUA)
}

func (x export) Trim(ctx context.Context, off, n int64, fua bool) error {
	return x.Zero(ctx, off, n, nbd.ZeroOptions{FUA: fua})
}

func (x export) flushIf(ctx context.Context, fua bool) error {
	if !fua {
		return nil
	}
	return x.Flush(ctx)
}

// Flush makes everything durable, which is more than what was completed before it: a disk may.
func (x export) Flush(context.Context) error { return x.d.shown.Load().Sync() }

func (x export) Extents(_ context.Context, _, n int64) ([]nbd.Extent, error) {
	return []nbd.Extent{{Len: n}}, nil
}
