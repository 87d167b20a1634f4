package node

import (
	"drship/internal/config"
	"drship/internal/ship"
	"drship/sender"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// packing is what wan { … } says of how batches are made small: fixed where it names a level or a codec, else chosen at run time.
func packing(w config.WAN) (reduce.Options, *sender.EffortRange) {
	o := reduce.Options{Codec: frame.CodecZstd, Level: w.Level, Fold: w.Fold, Delta: w.Delta, Dedupe: w.Dedupe, Cache: w.CacheSize}
	switch {
	case w.Compression == "off":
		o.Codec = frame.CodecRaw
	case w.Compression == "s2":
		o.Codec = frame.CodecS2
	case w.Level > 0:
	case w.Compression == "zstd":
		return o, &sender.EffortRange{Least: ship.EffortReduce, Most: ship.EffortMost}
	default:
		return o, &sender.EffortRange{Least: ship.EffortRaw, Most: ship.EffortMost}
	}
	return o, nil
}

// cacheOffered is how much this side keeps of recent blocks for a source: what the configuration allows for any of its peers.
func cacheOffered(peers []*peer) int64 {
	var most int64
	for _, p := range peers {
		if w := p.cfg.WAN; w.Delta || w.Dedupe {
			most = max(most, w.CacheSize)
		}
	}
	return most
}
