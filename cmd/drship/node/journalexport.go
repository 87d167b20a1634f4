package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/block"
	"drship/internal/trace"
	"drship/journal"
)

const (
	exportBytes   = 4 << 20 // data read from the journal at once
	exportRecords = 4096
)

// verbJournalExport writes the journal as a trace, from its start to its end; with "for" it goes on with what comes for so many
// seconds, with "new" it leaves out what is there.
func verbJournalExport(ctx context.Context, r *Resource, q *control.Request) (lines []string, err error) {
	path := q.Options["file"]
	if !filepath.IsAbs(path) {
		return nil, &refused{exit: control.ExitUsage, text: fmt.Sprintf("%q is not the absolute path of a file", path)}
	}
	seconds, err := number(q, "for")
	if err != nil {
		return nil, err
	}
	x := &exporter{until: time.Now().Add(time.Duration(seconds) * time.Second), follow: seconds > 0, fresh: q.Yes("new")}
	if a := r.attachment(); a != nil {
		err = x.file(ctx, path, a.store.Log())
	} else {
		x.follow = false
		err = r.withStore(ctx, func(s *journal.Store) error { return x.file(ctx, path, s.Log()) })
	}
	if errors.Is(err, journal.ErrGone) {
		return nil, &refused{exit: control.ExitRefused, text: "the peers have applied what was to be recorded, and it was given up meanwhile",
			hint: "let nothing be applied while it is recorded: drship disconnect " + r.name}
	}
	if err != nil {
		return nil, fmt.Errorf("export journal to %s: %w", path, err)
	}
	return []string{fmt.Sprintf("%d records, %d bytes of data: %s", x.records, x.bytes, path)}, nil
}

// exporter copies a journal to a trace.
type exporter struct {
	follow, fresh bool
	until         time.Time

	records uint64
	bytes   int64
}

// file writes a new file; one that is there already stays as it is.
func (x *exporter) file(ctx context.Context, path string, log *journal.Log) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path) // half a trace is of no use
		}
	}()
	out := bufio.NewWriterSize(f, 1<<20)
	w, err := trace.NewWriter(out, false)
	if err != nil {
		return err
	}
	return errors.Join(x.copy(ctx, w, log), w.Close(), out.Flush())
}

func (x *exporter) copy(ctx context.Context, w *trace.Writer, log *journal.Log) error {
	var recs []block.Record
	var arena []byte
	at := log.Start()
	if x.fresh {
		at = log.End()
	}
	for {
		var err error
		if recs, arena, err = log.ReadInto(at, exportBytes, exportRecords, recs[:0], arena[:0]); err != nil {
			return err
		}
		if len(recs) == 0 {
			more, err := x.wait(ctx, log, at)
			if err != nil || !more {
				return err
			}
			continue
		}
		for i := range recs {
			if err := w.Write(&recs[i]); err != nil {
				return err
			}
			x.bytes += int64(len(recs[i].Data))
		}
		x.records += uint64(len(recs))
		at = recs[len(recs)-1].Seq
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// wait returns when there is more to copy, or says that the time is over.
func (x *exporter) wait(ctx context.Context, log *journal.Log, at block.Seq) (more bool, err error) {
	if !x.follow {
		return false, nil
	}
	within, cancel := context.WithDeadline(ctx, x.until)
	defer cancel()
	err = log.Wait(within, at)
	if within.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	return true, err
}
