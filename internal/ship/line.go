package ship

import "time"

const (
	lineProbeMin   = 300 * time.Millisecond
	lineProbeMax   = 1500 * time.Millisecond
	lineProbeRTTs  = 10               // round trips that a probe lasts at least: congestion control has to open up
	lineProbeEvery = 60 * time.Second // from the end of a probe to the next
	lineProbeGap   = time.Second      // a probe that was not looked at for so long is begun anew
	lineSaturated  = 30               // per cent of a probe that senders have waited, for the line to count as the limit
	lineFull       = 75               // likewise of what is only observed: at its pace, too, a piece waits for the packets before it
	lineObserve    = time.Second      // a span of what is only observed
)

// Line estimates what a line delivers from what is sent over it. Now and then it asks for a probe: for a moment the sender
// goes as fast as it can, and where it has to wait for the line, what went out in the second half is what the line delivers.
// A sender that never waited has not found the limit. Between probes a span in which senders had to wait tells the same. The
// zero value knows nothing yet.
type Line struct {
	probed  bool
	seen    lineMark // where the span that is observed began
	rate    int64
	probing bool
	last    time.Time
	began   time.Time
	until   time.Time
	half    lineMark // at the middle of the probe
	next    time.Time
}

type lineMark struct {
	at     time.Time
	bytes  uint64
	waited time.Duration
}

// Look takes the counters of this moment: bytes sent, and the time that senders have waited for the line. It reports whether
// the sender should go without a limit. It is called each time something is due to be sent. quiet says that no application has
// written for a while: only then does a probe take the line, but for the first.
func (l *Line) Look(now time.Time, bytes uint64, waited, rtt time.Duration, quiet bool) bool {
	gap := now.Sub(l.last) > lineProbeGap
	l.last = now
	mark := lineMark{now, bytes, waited}
	if l.probing || gap || l.seen.at.IsZero() {
		l.seen = mark
	} else if now.Sub(l.seen.at) >= lineObserve {
		l.observe(l.seen, mark, lineFull)
		l.seen = mark
	}
	switch {
	case l.probing && l.probed && !quiet:
		l.probing, l.next = false, now.Add(lineProbeEvery)
	case l.probing && gap, !l.probing && !now.Before(l.next) && (quiet || !l.probed):
		l.begin(now, rtt)
	case l.probing && l.half.at.IsZero() && now.Sub(l.began) >= l.until.Sub(l.began)/2:
		l.half = lineMark{now, bytes, waited}
	case l.probing && !now.Before(l.until):
		l.end(now, bytes, waited)
	}
	return l.probing
}

func (l *Line) begin(now time.Time, rtt time.Duration) {
	l.probing, l.began, l.half = true, now, lineMark{}
	l.until = now.Add(min(max(lineProbeMin, lineProbeRTTs*rtt), lineProbeMax))
}

func (l *Line) end(now time.Time, bytes uint64, waited time.Duration) {
	l.probing, l.probed, l.next = false, true, now.Add(lineProbeEvery)
	if !l.half.at.IsZero() {
		l.observe(l.half, lineMark{now, bytes, waited}, lineSaturated)
	}
}

// observe learns from what went out between two marks; full is the per cent of waiting that tells of a full line.
func (l *Line) observe(from, to lineMark, full time.Duration) {
	span := to.at.Sub(from.at)
	if span <= 0 || to.bytes <= from.bytes {
		return
	}
	rate := int64(float64(to.bytes-from.bytes) / span.Seconds())
	switch {
	case (to.waited-from.waited)*100 >= span*full:
		l.rate = rate
	case rate > l.rate && l.rate > 0:
		l.rate = rate // it delivers at least that
	}
}

// Again has the line probed at the next look, whoever writes: somebody asked for it.
func (l *Line) Again() { l.probed, l.next = false, time.Time{} }

// Rate is what the line delivers, in bytes a second; 0 while it is not known to be a limit.
func (l *Line) Rate() int64 { return l.rate }

const (
	speedMarks = 8
	speedEvery = 3 * time.Second // eight marks: some 24 s
)

// Speed reckons the rate of a job over its last 24 s or so, from how much is left. The zero value is ready.
type Speed struct {
	marks [speedMarks]speedMark
	n     int // marks taken
}

type speedMark struct {
	at   time.Time
	left uint64
}

// Due reports whether Note would take a mark now.
func (s *Speed) Due(now time.Time) bool {
	return s.n == 0 || now.Sub(s.marks[(s.n-1)%speedMarks].at) >= speedEvery
}

// Fresh reports whether the first mark is so young that the rate says little.
func (s *Speed) Fresh(now time.Time) bool {
	return s.n == 0 || s.n == 1 && now.Sub(s.marks[0].at) < speedEvery
}

// Note takes what is left now, if it is due.
func (s *Speed) Note(now time.Time, left uint64) {
	if !s.Due(now) {
		return
	}
	s.marks[s.n%speedMarks] = speedMark{now, left}
	s.n++
}

// Rate is how much was done a second, and when the rest will be done at that rate; negative for never. Before the second mark
// it is the average since the first.
func (s *Speed) Rate(now time.Time, left uint64) (perSecond float64, eta time.Duration) {
	if s.n == 0 {
		return 0, -1
	}
	oldest := s.marks[max(0, s.n-speedMarks)%speedMarks]
	span := now.Sub(oldest.at).Seconds()
	if span <= 0 || left >= oldest.left {
		return 0, -1
	}
	perSecond = float64(oldest.left-left) / span
	return perSecond, time.Duration(float64(left) / perSecond * float64(time.Second))
}
