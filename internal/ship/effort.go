package ship

import "time"

// Effort is how much a sender does to make batches small, from nothing to all it can.
type Effort int

// The efforts. From EffortReduce on, blocks travel as differences and references too.
const (
	EffortRaw    Effort = iota // as it is
	EffortFast                 // S2
	EffortReduce               // differences, references, zstd at its fastest
	EffortMore                 // the same, zstd at its default
	EffortMost                 // the same, packed densely where that pays: half the bytes of a database, up to four times the processor
)

var effortNames = [...]string{"raw", "fast", "reduce", "more", "most"}

func (e Effort) String() string {
	if e >= 0 && int(e) < len(effortNames) {
		return effortNames[e]
	}
	return "unknown"
}

// Load is what a sender saw over a span of time.
type Load struct {
	Span    time.Duration
	Busy    time.Duration // encoding
	Waited  time.Duration // the line did not take what was to be sent
	RTT     time.Duration // the shortest: how far the peer is; 0: not known
	Ceiling bool          // the line has a ceiling by configuration
	Backlog int64         // bytes that wait to be shipped
	Sent    int64         // bytes, as packed
}

// TuneEvery is how often an effort is reconsidered.
const TuneEvery = 500 * time.Millisecond

const (
	farRTT        = 2 * time.Millisecond // from here on a line is worth sparing even where it keeps up
	scarceLine    = 20                   // per cent of the span waited for the line: it is what is scarce
	freeLine      = 5                    // below it is not
	scarceCPU     = 50                   // per cent of the span encoding, while the line is free: that is what is scarce
	sparedCPU     = 15                   // what may go into sparing a line that is far and keeps up
	idleCPU       = 5                    // the same for EffortMost, which may take several times as much
	roomCPU       = 35                   // below it there is room for more where the line is scarce
	nearCPU       = 20                   // what encoding may take where the line is near and free
	wideLine      = 40e6                 // bytes a second: a near line that carries that is worth no more than EffortFast, whoever waits
	firstPatience = 4                    // looks until an effort that turned out too much is tried again; doubles each time
	maxPatience   = 256
)

// Tuner chooses the effort: more where the line is what is scarce, less where the processor is. The zero value starts with
// EffortFast and is ready.
type Tuner struct {
	at       Effort
	begun    bool
	least    Effort // set by Limit
	most     Effort
	limited  bool
	tooMuch  Effort // the effort that was given up last, 0 for none
	patience int    // looks left until it may be tried again
	held     int    // how long patience was last time
}

// Limit keeps the tuner between two efforts, both included.
func (t *Tuner) Limit(least, most Effort) { t.least, t.most, t.limited = least, most, true }

// Effort is the one chosen.
func (t *Tuner) Effort() Effort {
	if !t.begun {
		return t.clamp(EffortFast)
	}
	return t.at
}

func (t *Tuner) clamp(e Effort) Effort {
	if !t.limited {
		return min(max(e, EffortRaw), EffortMost)
	}
	return min(max(e, t.least), t.most)
}

// Next takes what was seen since the last look and returns the effort from now on, at most one step away.
func (t *Tuner) Next(l Load) Effort {
	if !t.begun {
		t.begun, t.at = true, t.clamp(EffortFast)
	}
	if l.Span <= 0 {
		return t.at
	}
	busy, waited := percent(l.Busy, l.Span), percent(l.Waited, l.Span)
	far := l.RTT >= farRTT || l.Ceiling
	wide := !far && float64(l.Sent) >= wideLine*l.Span.Seconds()
	t.patience = max(t.patience-1, 0)
	step := 0
	switch {
	case waited < freeLine && busy >= scarceCPU && (l.Backlog > largeBatch || !far):
		step = -1
	case wide && t.at > EffortFast:
		step = -1
	case waited >= scarceLine && busy < roomCPU && (!wide || t.at < EffortFast):
		step = 1
	case far && (t.at < EffortMore && busy < sparedCPU || busy < idleCPU):
		step = 1
	case !far && waited < freeLine && (t.at > EffortFast || busy >= nearCPU):
		step = -1
	case !far && t.at < EffortFast && busy < nearCPU/4:
		step = 1
	}
	next := t.clamp(t.at + Effort(step))
	switch {
	case next < t.at:
		t.tooMuch = t.at
		t.held = min(max(2*t.held, firstPatience), maxPatience)
		t.patience = t.held
	case next > t.at && next == t.tooMuch && t.patience > 0:
		return t.at
	}
	t.at = next
	return t.at
}

func percent(part, whole time.Duration) int { return int(100 * part / whole) }
