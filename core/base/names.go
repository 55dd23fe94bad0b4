package base

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	keyPrefix     = "base/" // where layers are
	segmentPrefix = "page/" // where page segments are
)

// Prefix returns the folder of layers.
func Prefix() string { return keyPrefix }

// SegmentPrefix returns the folder of page segments.
func SegmentPrefix() string { return segmentPrefix }

// Key returns the key of the layer that the writer of an epoch takes at a record: base/<epoch>-<seq>, of fixed width, so that keys sort.
func Key(epoch, seq uint64) string { return fmt.Sprintf("%s%020d-%020d", keyPrefix, epoch, seq) }

// IndexKey returns the key of a layer's index, without which the layer does not exist.
func IndexKey(layer string) string { return layer + "/index" }

// SegmentKey returns the key of the n-th page segment written for a layer.
func SegmentKey(layer string, n int) string {
	return fmt.Sprintf("%s%s/%06d", segmentPrefix, strings.TrimPrefix(layer, keyPrefix), n)
}

// partKey returns the key of the n-th part of a layer of format 1, which shares nothing.
func partKey(layer string, n int) string { return fmt.Sprintf("%s/part/%06d", layer, n) }

// Object is what an object's key says.
type Object struct {
	Layer      string // base/<epoch>-<seq>, or with -<id> appended; of a segment: the layer that it was written for
	Epoch, Seq uint64
	ID         string // of the database that begins with this layer; empty: not in the key
	Index      bool   // the index; otherwise a part of a layer of format 1, or a segment
}

// ParseObject parses the key of an index, or of a part of a layer of format 1. ok is false for everything else in the folder of layers, so
// that a collection deletes only keys that have exactly the form of a layer's objects.
func ParseObject(key string) (o Object, ok bool) {
	name, object, ok := cutName(key, keyPrefix)
	if !ok || !o.parse(name) {
		return Object{}, false
	}
	if key == IndexKey(o.Layer) {
		o.Index = true
		return o, true
	}
	digits, isPart := strings.CutPrefix(object, "part/")
	n, err := strconv.ParseUint(digits, 10, 31)
	return o, isPart && err == nil && key == partKey(o.Layer, int(n))
}

// ParseSegment parses the key of a page segment; ok is as in ParseObject.
func ParseSegment(key string) (o Object, ok bool) {
	name, digits, ok := cutName(key, segmentPrefix)
	if !ok || !o.parse(name) {
		return Object{}, false
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	return o, err == nil && key == SegmentKey(o.Layer, int(n))
}

func cutName(key, prefix string) (name, object string, ok bool) {
	rest, below := strings.CutPrefix(key, prefix)
	name, object, ok = strings.Cut(rest, "/")
	return name, object, below && ok
}

// parse parses <epoch>-<seq> or <epoch>-<seq>-<id>.
func (o *Object) parse(name string) bool {
	epoch, seq, _ := strings.Cut(name, "-")
	seq, o.ID, _ = strings.Cut(seq, "-")
	var err error
	if o.Epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
		return false
	}
	if o.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return false
	}
	o.Layer = keyPrefix + name
	return true
}
