package pair

import (
	"context"
	"fmt"
	"io"

	"drship/internal/nbd"
	"drship/internal/nbd/nbdclient"
)

// Volume is an open NBD export of a node. Its methods may be called concurrently.
type Volume struct {
	client *nbdclient.Client
}

// Open connects to a volume's export.
func (n *Node) Open(ctx context.Context, volume int) (*Volume, error) {
	c, err := nbdclient.Dial(ctx, "unix", n.NBDSocket(), Export(volume))
	if err != nil {
		return nil, err
	}
	return &Volume{client: c}, nil
}

// Size of the export, in bytes.
func (v *Volume) Size() int64 { return v.client.Size() }

// ReadAt fills p from off.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	return v.client.ReadAt(ctx, p, off)
}

// WriteAt writes p at off.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	return v.client.WriteAt(ctx, p, off, fua)
}

// Zero writes zeroes.
func (v *Volume) Zero(ctx context.Context, off, n int64) error {
	return v.client.Zero(ctx, off, n, nbd.ZeroOptions{})
}

// Trim gives a range back.
func (v *Volume) Trim(ctx context.Context, off, n int64) error {
	return v.client.Trim(ctx, off, n, false)
}

// Flush makes what was completed before it durable.
func (v *Volume) Flush(ctx context.Context) error { return v.client.Flush(ctx) }

// Close ends the connection. What the server did not answer before fails; a connection that is broken already is no error.
func (v *Volume) Close() { _ = v.client.Close() }

// ReaderAt is the volume as a reader, until ctx ends.
func (v *Volume) ReaderAt(ctx context.Context) io.ReaderAt { return readerAt{ctx, v} }

type readerAt struct {
	ctx context.Context
	v   *Volume
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(r.v.Size()-off, 0))
	if err := r.v.ReadAt(r.ctx, p[:n], off); err != nil {
		return 0, fmt.Errorf("read export: %w", err)
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}
