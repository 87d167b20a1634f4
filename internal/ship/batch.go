package ship

// BatchLimits bound one batch.
type BatchLimits struct {
	Bytes   int // of record data
	Records int
}

const (
	smallBatch = 512 << 10 // a batch on a link that keeps up: small enough not to delay what comes behind it
	largeBatch = 4 << 20   // under backlog: folding and compression pay more; the frame's bound is above it
	maxRecords = 4096
	// deepBacklog is where batches have their full size. Between nothing and it they grow in proportion.
	deepBacklog = 64 << 20
)

// PlanBatch says how much the next batch may hold when backlog bytes wait to be shipped.
func PlanBatch(backlog int64) BatchLimits {
	grown := smallBatch + (largeBatch-smallBatch)*min(max(backlog, 0), deepBacklog)/deepBacklog
	return BatchLimits{Bytes: int(grown), Records: maxRecords}
}
