package base

import (
	"fmt"
	"strconv"
	"strings"
)

// keyPrefix is where layers are.
const keyPrefix = "base/"

// Prefix is the folder of layers, for whoever lists them.
func Prefix() string { return keyPrefix }

// Key names the layer that a writer of an epoch takes at a record: groups of fixed width sort.
func Key(epoch, seq uint64) string { return fmt.Sprintf("%s%020d-%020d", keyPrefix, epoch, seq) }

// Object is what the key of a layer's object says.
type Object struct {
	Layer      string // base/<epoch>-<seq>, or with -<id> behind it
	Epoch, Seq uint64
	ID         string // of a database that begins with this layer; empty: none is in the name
	Index      bool   // the index; otherwise a part
}

// ParseObject reads the key of an index or of a part of a layer. ok is false for everything else that may stand below the
// folder of layers, so that who deletes touches nothing but what has exactly the shape of a layer's object.
func ParseObject(key string) (o Object, ok bool) {
	rest, isLayer := strings.CutPrefix(key, keyPrefix)
	name, object, hasObject := strings.Cut(rest, "/")
	if !isLayer || !hasObject {
		return Object{}, false
	}
	var err error
	epoch, seq, _ := strings.Cut(name, "-")
	seq, o.ID, _ = strings.Cut(seq, "-")
	if o.Epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
		return Object{}, false
	}
	if o.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return Object{}, false
	}
	o.Layer = keyPrefix + name
	if key == IndexKey(o.Layer) {
		o.Index = true
		return o, true
	}
	digits, isPart := strings.CutPrefix(object, "part/")
	n, err := strconv.ParseUint(digits, 10, 31)
	return o, isPart && err == nil && key == PartKey(o.Layer, int(n))
}
