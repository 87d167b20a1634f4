package receiver

import "sync/atomic"

// Stats are the target's counters since New, and its queues now. Counters only grow.
type Stats struct {
	Batches       uint64 // batches received, checked and in their order
	Reduced       uint64 // of these, those that built on earlier ones or on the disks
	Records       uint64 // records in them
	Folded        uint64 // records that folding at the source took out of them
	BatchBytes    uint64 // bytes of those batches as they came, packed
	StagedBatches uint64
	StagedBytes   uint64 // bytes of staged batches, as stored
	Stages        uint64 // synced commits that staged them
	Applied       uint64 // records written to the disks, again after a restart too
	AppliedBytes  uint64 // bytes of them; zeroes and trims count their length
	Chunks        uint64 // chunks of a resync written to the disks
	ChunkBytes    uint64 // bytes of them
	ChunkWire     uint64 // bytes of them as they came, packed
	Syncs         uint64 // syncs of the disks, all volumes together
	Spilled       uint64 // batches dropped from memory when staged and read back to be applied

	DigestFailures uint64 // batches and chunks whose content did not match, never written
	ChainBreaks    uint64 // batches that did not follow, outside of a resend
	Resends        uint64 // times that batches were asked for again
	Discarded      uint64 // batches dropped while waiting for the resent ones

	Compared  uint64 // bytes compared for Query and Verify
	Differing uint64 // blocks that differed
	Images    uint64 // pre-images saved

	QueueBytes   int64 // held in memory now
	QueueItems   int   // messages between Handle and the disks now
	StagingBytes int64 // staged and not yet forgotten, in the store
	HistoryBytes int64 // pre-images in the store
}

// counters are the running form of Stats.
type counters struct {
	batches, records, folded, batchBytes atomic.Uint64
	reducedBatches                       atomic.Uint64
	stagedBatches, stagedBytes, stages   atomic.Uint64
	applied, appliedBytes                atomic.Uint64
	chunks, chunkBytes, chunkWire        atomic.Uint64
	syncs, spilled                       atomic.Uint64
	digestFailures, chainBreaks          atomic.Uint64
	resends, discarded                   atomic.Uint64
	compared, differing, images          atomic.Uint64
	queueBytes, queueItems               atomic.Int64
}

// Stats returns the counters as they stand now.
func (t *Target) Stats() Stats {
	c := &t.stats
	return Stats{
		Batches: c.batches.Load(), Reduced: c.reducedBatches.Load(), Records: c.records.Load(), Folded: c.folded.Load(), BatchBytes: c.batchBytes.Load(),
		StagedBatches: c.stagedBatches.Load(), StagedBytes: c.stagedBytes.Load(), Stages: c.stages.Load(),
		Applied: c.applied.Load(), AppliedBytes: c.appliedBytes.Load(),
		Chunks: c.chunks.Load(), ChunkBytes: c.chunkBytes.Load(), ChunkWire: c.chunkWire.Load(),
		Syncs: c.syncs.Load(), Spilled: c.spilled.Load(),
		DigestFailures: c.digestFailures.Load(), ChainBreaks: c.chainBreaks.Load(),
		Resends: c.resends.Load(), Discarded: c.discarded.Load(),
		Compared: c.compared.Load(), Differing: c.differing.Load(), Images: c.images.Load(),
		QueueBytes: c.queueBytes.Load(), QueueItems: int(c.queueItems.Load()),
		StagingBytes: t.staging.Bytes(), HistoryBytes: t.history.Bytes(),
	}
}
