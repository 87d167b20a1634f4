package reduce

// Dense packing: matches in a window of what went before, as zstd has them, but every decision goes through a range coder (rangecoder.go)
// and is foreseen from where it stands, as LZMA does it. Pages of databases and file systems are arrays of records that differ in a
// few bytes each, so that repeats of one length come again and again, and in the same order: what foresees most is how long the
// last repeats were. There it takes half of what zstd takes.
//
// A step is one of
//
//	literal   a byte
//	match     length and distance
//	repeat    length, and one of the last four distances
//
// Window and probabilities go on from batch to batch.
const (
	denseWindow = 1 << 20 // bytes back that a match may reach

	minDense   = 2 // bytes of a match
	lowLengths = 8 // lengths with a tree of their own for each place; then as many again; then the rest
	maxDense   = minDense + 2*lowLengths + 256 - 1

	densePlaces = 4  // places modulo so many are told apart
	denseStates = 12 // see afterLiteral
	firstJoined = 7  // from this state on the last step was a match or a repeat

	paceLengths = 32  // lengths of the last repeat that are told apart
	paceSets    = 256 // of the last two, by a hash
	literalRuns = 4   // see sinceJoined
	lengthKinds = 4   // lengths 2, 3, 4 and above foresee the distance apart
	slotBits    = 6
	alignBits   = 4
	nearSlots   = 14 // below it the low bits of a distance are foreseen one by one
)

// denseModel is what both ends have learned.
type denseModel struct {
	state   uint32
	reps    [4]uint32 // distances - 1, the last one first
	pace    uint32    // lengths of the last two repeats, the last one in the low half
	matched [denseStates][paceLengths]prob
	repeats [denseStates][paceLengths]prob
	rep0    [denseStates][paceLengths]prob
	longer  [denseStates][densePlaces]prob // a repeat of the last distance: more than one byte
	rep1    [denseStates]prob
	rep2    [denseStates]prob
	match   lengths
	repeat  [paceSets]lengths
	slots   [lengthKinds][1 << slotBits]prob
	near    [nearSlots][1 << (nearSlots/2 - 2)]prob
	align   [1 << alignBits]prob
	lits    [paceLengths * literalRuns][0x300]prob
}

type lengths struct {
	choice [2]prob
	low    [densePlaces][lowLengths]prob
	mid    [densePlaces][lowLengths]prob
	high   [256]prob
}

func half(probs []prob) {
	for i := range probs {
		probs[i] = probHalf
	}
}

func (l *lengths) reset() {
	half(l.choice[:])
	half(l.high[:])
	for i := range l.low {
		half(l.low[i][:])
		half(l.mid[i][:])
	}
}

func (m *denseModel) reset() {
	m.state, m.pace, m.reps = 0, 0, [4]uint32{}
	for i := range m.matched {
		half(m.matched[i][:])
		half(m.repeats[i][:])
		half(m.rep0[i][:])
		half(m.longer[i][:])
	}
	half(m.rep1[:])
	half(m.rep2[:])
	half(m.align[:])
	m.match.reset()
	for i := range m.repeat {
		m.repeat[i].reset()
	}
	for i := range m.slots {
		half(m.slots[i][:])
	}
	for i := range m.near {
		half(m.near[i][:])
	}
	for i := range m.lits {
		half(m.lits[i][:])
	}
}

// The states: how the last steps went. 0–6 end in a literal, 7–11 in a match or repeat.

func afterLiteral(s uint32) uint32 {
	switch {
	case s < 4:
		return 0
	case s < 10:
		return s - 3
	}
	return s - 6
}

func afterMatch(s uint32) uint32 {
	if s < firstJoined {
		return 7
	}
	return 10
}

func afterRepeat(s uint32) uint32 {
	if s < firstJoined {
		return 8
	}
	return 11
}

func afterOne(s uint32) uint32 {
	if s < firstJoined {
		return 9
	}
	return 11
}

// sinceJoined is how many steps ago the last match was, from 0, roughly.
func sinceJoined(s uint32) uint32 {
	switch {
	case s >= firstJoined:
		return 0
	case s >= 4:
		return 1
	case s >= 1:
		return 2
	}
	return literalRuns - 1
}

// last is the length of the last repeat, as far as it is told apart.
func (m *denseModel) last() uint32 { return m.pace % paceLengths }

// paced takes note of a repeat of n bytes.
func (m *denseModel) paced(n int) {
	m.pace = (m.pace*paceLengths | min(uint32(n), paceLengths-1)) % (paceLengths * paceLengths)
}

// repeatLengths foresee the length of a repeat from those of the last two.
func (m *denseModel) repeatLengths() *lengths {
	return &m.repeat[m.pace*0x9e3779b1>>24%paceSets]
}

// literal is the context of a literal byte.
func (m *denseModel) literal() *[0x300]prob {
	return &m.lits[m.last()*literalRuns+sinceJoined(m.state)]
}

// push makes a distance the last one.
func (m *denseModel) push(d uint32) { m.reps = [4]uint32{d, m.reps[0], m.reps[1], m.reps[2]} }

// nearOf are the probabilities of the low bits of a distance.
func (m *denseModel) nearOf(slot uint32) []prob { return m.near[slot][:] }

// again puts one of the last distances in front.
func (m *denseModel) again(rep int) {
	d := m.reps[rep]
	copy(m.reps[1:rep+1], m.reps[:rep])
	m.reps[0] = d
}

func lengthKind(n int) int { return min(n-minDense, lengthKinds-1) }
