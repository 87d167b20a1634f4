package receiver

import (
	"bytes"
	"context"
	"sync"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
)

const (
	comparers  = 2       // goroutines that read and hash
	maxJobs    = 16      // runs that are being compared, or wait for a comparer
	compareLen = 1 << 20 // read at once, in bytes
)

// job is one run of blocks to be compared.
type job struct {
	v     *volume
	off   int64
	n     int64
	alg   digest.Alg
	sums  []byte
	query bool // of a resync: what is equal is done
	reply func(differ []byte) frame.Message

	read int64 // offset of the first byte that is still to be read; guarded by comparer.mu
}

// newJob makes the job of a Query or of a Verify, whichever is not nil. Both were checked.
func newJob(t *Target, q *frame.Query, v *frame.Verify) *job {
	if q != nil {
		return &job{v: t.volumes[q.Volume], off: q.Off, n: int64(q.Len), alg: digest.Alg(q.Digest), sums: q.Sums, read: q.Off, query: true,
			reply: func(differ []byte) frame.Message { return &frame.QueryReply{ID: q.ID, Differ: differ} }}
	}
	return &job{v: t.volumes[v.Volume], off: v.Off, n: int64(v.Len), alg: digest.Alg(v.Digest), sums: v.Sums, read: v.Off,
		reply: func(differ []byte) frame.Message { return &frame.VerifyReply{ID: v.ID, Differ: differ} }}
}

// equal are the runs of blocks that do not differ.
func (j *job) equal(differ []byte) (runs []VolumeRange) {
	for off := int64(0); off < j.n; off += block.Size {
		b := off / block.Size
		if differ[b/8]&(1<<(b%8)) != 0 {
			continue
		}
		n := min(block.Size, j.n-off)
		if last := len(runs) - 1; last >= 0 && runs[last].Range.End() == j.off+off {
			runs[last].Range.Len += n
			continue
		}
		runs = append(runs, VolumeRange{Volume: j.v.number, Range: block.Range{Off: j.off + off, Len: n}})
	}
	return runs
}

// comparer compares digests with the disks' content beside the applier, which only waits where it would overwrite
// what is still to be read. So a run is compared as it stood at its place in the stream.
type comparer struct {
	t     *Target
	out   *outbox
	todo  chan *job
	stop  <-chan struct{}
	moved chan struct{} // holds one token when a job has gone on; only the applier waits for it

	mu   sync.Mutex
	jobs []*job // added and not finished
}

func newComparer(t *Target, out *outbox, stop <-chan struct{}) *comparer {
	return &comparer{t: t, out: out, todo: make(chan *job, maxJobs), stop: stop, moved: make(chan struct{}, 1)}
}

// add takes a job on; the applier calls it at the job's place in the stream.
func (c *comparer) add(j *job) error {
	for !c.tryAdd(j) {
		if err := c.waitMoved(); err != nil {
			return err
		}
	}
	c.todo <- j // has room for all that are taken on
	return nil
}

func (c *comparer) tryAdd(j *job) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.jobs) >= maxJobs {
		return false
	}
	c.jobs = append(c.jobs, j)
	return true
}

func (c *comparer) waitMoved() error {
	select {
	case <-c.moved:
		return nil
	case <-c.stop:
		return ErrStopped
	}
}

// wait returns once no job still has to read from the range; the applier calls it before it writes there.
func (c *comparer) wait(v *volume, r block.Range) error {
	for c.reads(v, r) {
		if err := c.waitMoved(); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparer) reads(v *volume, r block.Range) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		if j.v == v && r.Overlaps(block.Range{Off: j.read, Len: j.off + j.n - j.read}) {
			return true
		}
	}
	return false
}

// run works jobs off until the Run stops.
func (c *comparer) run(ctx context.Context) error {
	buf := make([]byte, 0)
	for {
		var j *job
		select {
		case j = <-c.todo:
		case <-c.stop:
			return nil
		}
		if len(buf) == 0 {
			buf = make([]byte, compareLen)
		}
		differ, err := c.compare(ctx, j, buf)
		if err != nil {
			return err
		}
		c.finished(j)
		if differ == nil {
			return nil // stopped
		}
		if j.query && c.t.resynced != nil {
			c.t.resynced(j.equal(differ))
		}
		if err := c.out.reply(ctx, j.reply(differ)); err != nil {
			return err
		}
	}
}

// compare returns a bit for each block of the run, set where it differs; nil when the Run was stopped.
func (c *comparer) compare(ctx context.Context, j *job, buf []byte) ([]byte, error) {
	blocks := (j.n + block.Size - 1) / block.Size
	differ := make([]byte, (blocks+7)/8)
	size := j.alg.Size()
	var sum []byte
	var count uint64
	for off := j.off; off < j.off+j.n; {
		if ctx.Err() != nil {
			return nil, nil
		}
		part := buf[:min(int64(len(buf)), j.off+j.n-off)]
		if err := j.v.disk.ReadAt(part, off); err != nil {
			return nil, &DiskError{Volume: j.v.number, Err: err}
		}
		c.hasRead(j, off+int64(len(part)))
		for i := 0; i < len(part); i += block.Size {
			sum = j.alg.Sum(sum[:0], part[i:min(i+block.Size, len(part))])
			b := (int(off-j.off) + i) / block.Size
			if !bytes.Equal(sum, j.sums[b*size:(b+1)*size]) {
				differ[b/8] |= 1 << (b % 8)
				count++
			}
		}
		off += int64(len(part))
	}
	c.t.stats.compared.Add(uint64(j.n))
	c.t.stats.differing.Add(count)
	return differ, nil
}

func (c *comparer) hasRead(j *job, to int64) {
	c.mu.Lock()
	j.read = to
	c.mu.Unlock()
	signal(c.moved)
}

func (c *comparer) finished(j *job) {
	c.mu.Lock()
	for i, other := range c.jobs {
		if other == j {
			c.jobs = append(c.jobs[:i], c.jobs[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	signal(c.moved)
}
