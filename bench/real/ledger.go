package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// writers is how many count beside each other.
const writers = 4

// entry is one commit that a writer asked for: row n of its own, the one behind n-1.
type entry struct {
	writer, n int
	asked     time.Time // before it was sent
	acked     time.Time // when the answer was read; zero where none came
}

// ledger is what the clients know of their commits since the round began.
type ledger struct {
	mu      sync.Mutex
	entries []entry
}

func (l *ledger) ask(writer, n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{writer: writer, n: n, asked: time.Now()})
	return len(l.entries) - 1
}

func (l *ledger) ack(i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[i].acked = time.Now()
}

// acked counts the commits that were acknowledged behind a moment.
func (l *ledger) acked(behind time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.acked.After(behind) {
			n++
		}
	}
	return n
}

func (l *ledger) all() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries
}

// judge holds what a database has against what its clients know: have[w] is how many rows, from 1 on without a gap, it has of writer w. Commits
// that were acknowledged until must have to be there. Whatever is there, everything that was acknowledged before it was asked for is there too.
// It returns how many acknowledged commits are missing.
func judge(entries []entry, have [writers]int, must time.Time) (missing int, err error) {
	var first *entry // of the acknowledged that are missing, the one acknowledged first
	for i := range entries {
		e := &entries[i]
		if e.acked.IsZero() || e.n <= have[e.writer] {
			continue
		}
		missing++
		if !e.acked.After(must) {
			return missing, fmt.Errorf("row %d of writer %d was acknowledged %v before what must be there ends, and is missing (there are %d)",
				e.n, e.writer, must.Sub(e.acked), have[e.writer])
		}
		if first == nil || e.acked.Before(first.acked) {
			first = e
		}
	}
	if first == nil {
		return 0, nil
	}
	for i := range entries {
		e := &entries[i]
		if e.n <= have[e.writer] && e.asked.After(first.acked) {
			return missing, fmt.Errorf("no prefix: row %d of writer %d is there, and was asked for %v after row %d of writer %d was acknowledged, which is missing",
				e.n, e.writer, e.asked.Sub(first.acked), first.n, first.writer)
		}
	}
	return missing, nil
}

// load is the database's clients: writers that count, and pgbench.
type load struct {
	ledger  ledger
	clients sync.WaitGroup
	cancel  context.CancelFunc
}

// startLoad lets every writer go on behind the rows that are there.
func startLoad(ctx context.Context, p *postgres, have [writers]int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	for w := range writers {
		l.clients.Go(func() { l.count(ctx, p, w, have[w]) })
	}
	l.clients.Go(func() {
		// It ends when the server does.
		_, _ = p.client(ctx, "pgbench", "-n", "-c", "2", "-j", "1", "-T", "3600", "postgres")
	})
	return l
}

// stop ends the clients.
func (l *load) stop() {
	l.cancel()
	l.clients.Wait()
}

// count commits row after row, until the server does not answer any more.
func (l *load) count(ctx context.Context, p *postgres, writer, n int) {
	cmd := p.command(ctx, "psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "postgres")
	in, err := cmd.StdinPipe()
	if err != nil {
		return
	}
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return
	}
	defer func() { _ = cmd.Wait() }() // how it ended says how the server did, which is the round's matter
	defer in.Close()
	lines := bufio.NewScanner(out)
	filler := strings.Repeat("x", 200)
	for {
		n++
		i := l.ledger.ask(writer, n)
		if _, err := io.WriteString(in, fmt.Sprintf("insert into counted values (%d, %d, '%s');\n", writer, n, filler)); err != nil {
			return
		}
		if !lines.Scan() || lines.Text() != "INSERT 0 1" {
			return
		}
		l.ledger.ack(i)
	}
}

// counted asks how many rows of each writer there are. Gaps are an error.
func counted(ctx context.Context, p *postgres) (have [writers]int, err error) {
	out, err := p.query(ctx, "select writer, count(*), min(n), max(n) from counted group by writer")
	if err != nil {
		return have, err
	}
	for line := range strings.Lines(out) {
		var w, n, first, last int
		if _, err := fmt.Sscanf(strings.ReplaceAll(strings.TrimSpace(line), "|", " "), "%d %d %d %d", &w, &n, &first, &last); err != nil || w < 0 || w >= writers {
			return have, fmt.Errorf("the database answers %q: %w", line, err)
		}
		if first != 1 || last != n {
			return have, fmt.Errorf("writer %d has %d rows from %d to %d: there is a gap", w, n, first, last)
		}
		have[w] = n
	}
	return have, nil
}
