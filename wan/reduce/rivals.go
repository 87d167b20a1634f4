package reduce

// rivals choose between two ways of packing by what each has made of what was sent lately: tokens find what is alike in many blocks of the
// cache, dense packing what is alike in few. Now and then the other way has a trial; one that loses waits four times as long for the next.
type rivals struct {
	best  int // 0 dense, 1 tokens
	trial bool
	left  int64 // bytes until the trial begins or ends
	wait  int64
	ratio [2]float64 // bytes out for bytes in, of the way that is used and of the one on trial
}

const (
	trialBytes = 1 << 20
	trialEvery = 32 << 20 // at first
	trialRare  = 1 << 30  // at most
	trialGain  = 0.95     // what the other way must come below to be taken
	ratioLearn = 1 << 20  // bytes over which a ratio is an average, about
)

// now is the way for the next batch.
func (r *rivals) now() int {
	if r.wait == 0 {
		r.wait, r.left = trialEvery, trialEvery
	}
	if r.trial {
		return 1 - r.best
	}
	return r.best
}

// took says what became of a batch that went the way that now has said.
func (r *rivals) took(in, out int) {
	if in == 0 {
		return
	}
	way := r.now()
	share := min(float64(in)/ratioLearn, 1)
	if r.ratio[way] == 0 {
		share = 1
	}
	r.ratio[way] += (float64(out)/float64(in) - r.ratio[way]) * share
	if r.left -= int64(in); r.left > 0 {
		return
	}
	if r.trial = !r.trial; r.trial {
		r.left, r.ratio[1-r.best] = trialBytes, 0
		return
	}
	if other := 1 - r.best; r.ratio[other] < r.ratio[r.best]*trialGain {
		r.best, r.wait = other, trialEvery
	} else {
		r.wait = min(4*r.wait, trialRare)
	}
	r.left = r.wait
}
