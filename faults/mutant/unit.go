package mutant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
)

// unitRooms are the packages whose own tests have to catch their mutants.
var unitRooms = []string{"core/store", "core/takeover", "core/wal", "core/gc", "core/lease", "core/manifest"}

// promise stands for what a client may rely on that is not one of the protocol's invariants.
const promise = "promise"

// host stands for PostgreSQL computing the same here as anywhere.
const host = "host"

// The files that only unit mutants break.
const (
	partsFile    = "core/gc/parts.go"
	recordFile   = "core/wal/record.go"
	namesFile    = "core/base/names.go"
	placeFile    = "core/takeover/place.go"
	adoptFile    = "core/takeover/adopt.go"
	publishFile  = "core/manifest/publish.go"
	retainFile   = "core/manifest/retain.go"
	manifestCode = "core/manifest/manifest.go"
)

// UnitMutants returns broken variants that the tests of their own package, named by Plan, have to catch: those of Mutants and EngineMutants
// in the protocol's packages (unitRooms), and others that the explorer does not cover.
func UnitMutants() []Mutant {
	var all []Mutant
	seen := map[string]bool{}
	for _, m := range slices.Concat(Mutants(), EngineMutants()) {
		if slices.Contains(unitRooms, path.Dir(m.File)) && !seen[m.Name] {
			seen[m.Name] = true
			m.Plan = "./" + path.Dir(m.File)
			all = append(all, m)
		}
	}
	return slices.Concat(all, prefixMutants(), layerMutants(), branchMutants(), historyMutants(), listenerMutants(), hostMutants(), processMutants(), awayMutants(), replicaMutants(), leanMutants(), postlinkMutants(), recoveryMutants(), answerMutants(), httpMutants())
}

// layerMutants break what a layer says, and what it shares.
func layerMutants() []Mutant {
	const write, plan, read, named = "core/base/write.go", "core/base/plan.go", "core/base/read.go", "core/base/named.go"
	return []Mutant{
		{
			Name: "index-without-segments", Invariant: restorable, File: write, Plan: "./core/base",
			Doc: "a layer's index is written although one of its segments was not",
			Old: "if !damage(err) {\n\t\t\treturn err", New: "if !damage(err) {\n\t\t\treturn ctx.Err()",
		},
		{
			Name: "damage-stops-layers", Invariant: restorable, File: write, Plan: "./core/base",
			Doc: "a damaged page that only a cleaning wants stops all layers",
			Old: "if !damage(err) {", New: "if true {",
		},
		{
			Name: "damage-stops-opening", Invariant: restorable, File: "core/engine/opening.go", Plan: "-run TestDamage ./core/engine",
			Doc: "a small database with one damaged page does not open",
			Old: "if op.pages == nil || !errors.Is(err, store.ErrCorrupt)", New: "if op.pages == nil || errors.Is(err, store.ErrCorrupt)",
		},
		{
			Name: "collects-what-is-read", Invariant: restorable, File: "core/engine/cache.go", Plan: "-run TestCrashBehindALayer ./core/engine",
			Doc: "PostgreSQL crashes after a layer: its files are where earlier layers have them, and those are collected",
			Old: "\t\tfailed = errors.Join(failed, err) //", New: "\t\tif err != nil {\n\t\t\treturn nil\n\t\t}\n\t\t//",
		},
		{
			Name: "settles-by-guess", Invariant: restorable, File: "core/engine/compact.go", Plan: "-run TestFailuresOfACache ./core/engine",
			Doc: "files were not told where a new layer has them, and what they are still read from is collected",
			Old: "\t\terr = settle()\n\t}\n\tif err != nil {", New: "\t\t_ = settle()\n\t}\n\tif err != nil {",
		},
		{
			Name: "collects-by-guess", Invariant: restorable, File: "core/gc/layers.go", Plan: "./core/gc",
			Doc: "segments are deleted although it is not known what an earlier layer needs",
			Old: "if c.unread != nil {", New: "if c.unread == nil && ctx.Err() != nil {",
		},
		{
			Name: "once-damaged-always-damaged", Invariant: idle, File: "core/base/segments.go", Plan: "-run TestDamage ./core/base",
			Doc: "a segment that could not be read once is never cleaned again, even after it was restored",
			Old: "p.o.Clock.Monotonic()-at < lostFor {", New: "at >= 0 {",
		},
		{
			Name: "outage-taken-for-damage", Invariant: idle, File: write, Plan: "./core/base",
			Doc: "a segment that is briefly unreadable is never cleaned again",
			Old: "return errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound)", New: "return err != nil",
		},
		{
			Name: "cleaning-drops-chunk", Invariant: restorable, File: plan, Plan: "./core/base",
			Doc: "cleaning a segment leaves one chunk behind",
			Old: "e.add(first, n, next+int64(len(p.views)))\n\t\t\t\twrite(views)",
			New: "e.add(first, n-n/2, next+int64(len(p.views)))\n\t\t\t\twrite(views[:n-n/2])",
		},
		{
			Name: "chunk-one-off", Invariant: restorable, File: read, Plan: "./core/base",
			Doc: "the chunk next to the requested one of a frame is put in place",
			Old: "copy(c.data[i][:], raw[i*memfs.ChunkSize:])", New: "copy(c.data[i][:], raw[(i+1)%n*memfs.ChunkSize:])",
		},
		{
			Name: "shares-what-changed", Invariant: restorable, File: plan, Plan: "./core/base",
			Doc: "a chunk that was written since the previous layer is taken from that layer",
			Old: "if len(l.changed) > 0 && l.changed[0] == chunk {", New: "if len(l.changed) > 1 && l.changed[0] == chunk {",
		},
		{
			Name: "never-cleans", Invariant: idle, File: plan, Plan: "./core/base",
			Doc: "segments are kept however little of them is used",
			Old: "case live[i]*cleanShare < s.chunks:", New: "case live[i]*cleanShare < 0:",
		},
		{
			Name: "uses-chunk-twice", Invariant: "sound", File: "core/base/index.go", Plan: "./core/base",
			Doc: "an index that uses a chunk twice is believed",
			Old: "if r.at < next {", New: "if r.at < next-1<<40 {",
		},
		{
			Name: "page-of-any-segment", Invariant: restorable, File: "core/base/pages.go", Plan: "-run TestPages ./core/base",
			Doc: "a page is read from whatever is under its segment's name, if it decompresses to as many bytes",
			Old: "if got := checksum(stored); got != s.frames[n].crc {", New: "if got := checksum(stored); got != s.frames[n].crc && len(stored) != s.frames[n].size {",
		},
		{
			Name: "index-of-any-layer", Invariant: prefix, File: "core/base/index.go", Plan: "-run TestIndex ./core/base ./core/gc",
			Doc: "the index of an earlier layer is read in place of a later one's",
			Old: "if own.layer != \"\" && own.layer != layer {", New: "if own.layer == \"\" && own.layer == layer {",
		},
		{
			Name: "index-of-any-database", Invariant: prefix, File: named, Plan: "-run TestIndex ./core/base",
			Doc: "the index of another database's layer is read",
			Old: "own != \"\" && e.Database != \"\" && own != e.Database {", New: "own != \"\" && own == e.Database+\"-\" {",
		},
		{
			Name: "index-of-any-size", Invariant: prefix, File: named, Plan: "-run TestExpect ./core/base",
			Doc: "an index without a name is read although the manifest describes another one",
			Old: "case e.StoredBytes != 0 && use", New: "case e.StoredBytes < 0 && use",
		},
		{
			Name: "layer-of-any-record", Invariant: prefix, File: named, Plan: "-run TestExpect ./core/base",
			Doc: "the log continues after a layer of another record, which a manifest names by mistake",
			Old: "case e.Seq != 0 && e.Seq != o.Seq:", New: "case e.Seq != 0 && o.Seq == 1<<64-1:",
		},
		{
			Name: "verify-without-wal-start", Invariant: "sound", File: verifyFile, Plan: "-run TestEachBit ./core/takeover",
			Doc: "a verification does not notice that records needed by a layer are about to be deleted",
			Old: "errors.Join(v.walStart(), layers,", New: "errors.Join(layers,",
		},
		{
			Name: "segments-of-a-later-layer", Invariant: "sound", File: named, Plan: "-run TestIndexContradictions ./core/base",
			Doc: "an index that needs a segment of a later layer is believed",
			Old: "return !ok || segment.Epoch > own.Epoch || segment.Seq > own.Seq", New: "return !ok || own.Epoch > segment.Epoch+1<<40",
		},
		{
			Name: "shares-with-a-later-layer", Invariant: restorable, File: write, Plan: "-run TestLater ./core/base",
			Doc: "a layer is written that names segments of a later one, so that it is never read",
			Old: "if err := o.mayShare(key); err != nil {", New: "if err := o.mayShare(key); err != nil && st == nil {",
		},
		{
			Name: "verify-by-name-only", Invariant: "sound", File: verifyFile, Plan: "-run TestVerify ./core/takeover",
			Doc: "a verification does not compare layers with what the manifest says about them",
			Old: "Expect:   base.Expected(v.m, l),", New: "Expect:   base.Expect{},",
		},
		{
			Name: "verified-for-others", Invariant: "sound", File: "core/base/verify.go", Plan: "-run TestSharedSegments ./core/base",
			Doc: "a verification takes unread parts of a segment that several layers share for sound",
			Old: "if used[i] && !known.used[i] {", New: "if used[i] && known.used == nil {",
		},
		{
			Name: "verified-by-name", Invariant: "sound", File: "core/base/verify.go", Plan: "-run TestSharedSegments ./core/base",
			Doc: "a verification takes a segment for sound although another layer describes its contents differently",
			Old: " || !slices.Equal(known.frames, s.frames) {", New: " || slices.Equal(known.frames, nil) {",
		},
		{
			Name: "collects-by-any-index", Invariant: restorable, File: gcLayersFile, Plan: "-run TestIndex ./core/gc",
			Doc: "a collection keeps what the wrong index needs, not the one named by the manifest, and deletes the rest",
			Old: "layer.Key, base.Expected(c.m, layer))", New: "layer.Key, base.Expect{})",
		},
		{
			Name: "layer-of-nobody", Invariant: prefix, File: "core/engine/compact.go", Plan: "-run TestIndex ./core/engine",
			Doc: "a layer does not say which database it belongs to",
			Old: "\to.Database = m.opened.Manifest.DatabaseID\n", New: "",
		},
		{
			Name: "shares-since-later", Invariant: durable, File: "core/engine/compact.go", Plan: "-run TestLayersShare ./core/engine",
			Doc: "what is written while a layer is uploaded is taken from that layer by the next one",
			Old: "moment := data.Mark()\n", New: "moment := ^memfs.Mark(0)\n",
		},
		{
			Name: "publish-undurable-layer", Invariant: replay, File: "core/engine/compact.go", Plan: "-run TestLayerWaitsForItsRecords ./core/engine",
			Doc: "a layer is published with commits whose record is not in the log",
			Old: "position, err := c.durable(ctx)\n", New: "position, err := m.log.position(), error(nil)\n\t_ = c.durable\n",
		},
		{
			Name: "answers-behind-the-end", Invariant: durable, File: "core/engine/mode_log_answers.go", Plan: "-run TestAnswersWhileItEnds ./core/engine",
			Doc: "where answers do not wait, those that leave while the engine ends report what it no longer flushes",
			Old: " && !m.e.closed.Load() {", New: " {",
		},
		{
			Name: "short-lives-pile-up", Invariant: idle, File: "core/engine/compact.go", Plan: "-run TestShortLivesAreCollected ./core/engine",
			Doc: "no end of a life collects, and no life is long enough for a collection of its own",
			Old: "if m.opened.Epoch%collectEvery != 0 || ", New: "if m.opened.Epoch%collectEvery >= 0 || ",
		},
		{
			Name: "collects-behind-a-late-swap", Invariant: restorable, File: "core/engine/compact.go", Plan: "-run TestCollectionBehindALateSwap ./core/engine",
			Doc: "an end deletes a layer that the manifest may yet name, through a swap that was given up",
			Old: "if m.undecided { //", New: "if m.undecided && m.o == nil { //",
		},
		{
			Name: "lease-left-too-early", Invariant: "liveness", File: "core/lease/lease.go", Plan: "./core/lease",
			Doc: "a lease is left as it is at the end although others still believe in it",
			Old: "> l.until+l.margin()+clocksApart", New: "> l.until-l.o.TTL",
		},
		{
			Name: "control-file-shared", Invariant: durable, File: plan, Plan: "./core/base",
			Doc: "a file that differs between the clone and the tree is taken from the layer made from the clone",
			Old: "if old != nil && path != pl.o.Rewrite {", New: "if old != nil {",
		},
	}
}

// branchMutants break a copy of a database within its bucket.
func branchMutants() []Mutant {
	const write, branch = "core/base/write.go", "core/engine/branch.go"
	return []Mutant{
		{
			Name: "branch-takes-a-cut-page", Invariant: restorable, File: write, Plan: "-run TestBranchOfACutSegment ./core/engine",
			Doc: "a branch is made of a truncated page segment",
			Old: "if err == nil && size != want {", New: "if err == nil && size < 0 {",
		},
		{
			Name: "branch-names-nobodys-page", Invariant: restorable, File: write, Plan: "-run TestBranchCopiesInTheBucket ./core/engine",
			Doc: "the index of a branch names a page segment at its parent's place",
			Old: "s.layer, s.n, s.part = w.key, w.next+i, false\n\t\tto := s.key()", New: "copied := segment{layer: w.key, n: w.next + i}\n\t\tto := copied.key()",
		},
		{
			Name: "branch-gives-up", Invariant: restorable, File: branch, Plan: "-run TestBranchBesideACollection ./core/engine",
			Doc: "a branch fails because its parent has deleted what it was about to copy",
			Old: "for range branchTries {", New: "for range 1 {",
		},
		{
			Name: "branch-once", Invariant: restorable, File: "core/takeover/place.go", Plan: "-run TestBranchThatDied ./core/engine",
			Doc: "no branch can be made where one was given up",
			Old: "return ok && o.ID != \"\"", New: "return ok && o.ID == \"\"",
		},
		{
			Name: "copy-over-somebody-elses", Invariant: durable, File: "core/store/gcs/write.go", Plan: "-run TestCopyEnds ./core/store/gcs",
			Doc: "a copy within the bucket replaces an existing object of its name",
			Old: ".If(storage.Conditions{DoesNotExist: true}).CopierFrom(", New: ".CopierFrom(",
		},
		{
			Name: "copy-is-its-own-rival", Invariant: restorable, File: "core/store/gcs/write.go", Plan: "-run TestCopySurvives ./core/store/gcs",
			Doc: "a copy whose reply was lost is taken for another process's",
			Old: "c.Metadata = map[string]string{writeIDField: p.writeID}", New: "c.Metadata = map[string]string{writeIDField: p.writeID + \"-\"}",
		},
	}
}

// prefixMutants break what concerns a prefix: what is alive in it, whose it is, what may be made there.
func prefixMutants() []Mutant {
	return []Mutant{
		{
			Name: "gc-by-metadata", Invariant: restorable, File: partsFile, Plan: "./core/gc",
			Doc: "the listing's write ids decide which parts are alive: a copy without metadata loses them",
			Old: "\t\tif !each(seq, a.Size) {\n",
			New: "\t\tif c.o.Learnt != nil {\n\t\t\tif c.o.Learnt.named == nil {\n\t\t\t\tc.o.Learnt.named = map[group]uint64{}\n\t\t\t}\n" +
				"\t\t\tfor epoch := range c.o.Epoch {\n\t\t\t\tc.o.Learnt.named[group{epoch, a.WriteID}] = seq\n\t\t\t}\n\t\t\tcontinue\n\t\t}\n\t\tif !each(seq, a.Size) {\n",
		},
		{
			Name: "gc-in-a-damaged-log", Invariant: restorable, File: partsFile, Plan: "./core/gc",
			Doc: "a missing record is passed over, although it may have named parts",
			Old: "\t\tif seq != next {\n", New: "\t\tif seq < next {\n",
		},
		{
			Name: "gc-anothers-records", Invariant: restorable, File: gcFile, Plan: "./core/gc",
			Doc: "a record of another database is deleted",
			Old: "\tcase r.DatabaseID != c.m.DatabaseID:\n", New: "\tcase r.DatabaseID == \"\":\n",
		},
		{
			Name: "gc-by-prefix", Invariant: restorable, File: namesFile, Plan: "./core/gc",
			Doc: "anything below a layer's folder is taken for a part of it: another database within is emptied",
			Old: "isPart && err == nil && key == partKey(o.Layer, int(n))", New: "isPart || err == nil || n == 0",
		},
		{
			Name: "gc-segments-by-prefix", Invariant: restorable, File: namesFile, Plan: "./core/gc",
			Doc: "anything below the folder of page segments is taken for one",
			Old: "return o, err == nil && key == SegmentKey(o.Layer, int(n))", New: "return o, err == nil || n == 0",
		},
		{
			Name: "gc-parts-by-prefix", Invariant: restorable, File: recordFile, Plan: "./core/gc",
			Doc: "anything below the folder of parts is taken for one",
			Old: "&& nErr == nil && number >= 0 && key == partKey(epoch, writeID, number)", New: "&& (nErr == nil || number >= 0)",
		},
		{
			Name: "own-write-by-metadata", Invariant: durable, File: createFile, Plan: "./core/store",
			Doc: "a record of our own, whose reply was lost, is recognised by its metadata",
			Old: "case lookErr == nil && bytes.Equal(o.Body, body):", New: "case lookErr == nil && bytes.Equal(o.Body, body) && o.WriteID == writeID:",
		},
		{
			Name: "every-waiter-renews", Invariant: idle, File: leaseFile, Plan: "./core/lease",
			Doc: "requests that wait for a renewal renew the lease again, one after the other",
			Old: "if l.Valid() { // of all", New: "if l.Valid() && l.o.TTL == 0 { // of all",
		},
		{
			Name: "own-lease-by-metadata", Invariant: "lease", File: leaseFile, Plan: "./core/lease",
			Doc: "a lease of our own, whose reply was lost, is recognised by its metadata",
			Old: "\treturn s.WriteID\n", New: "\t_ = s\n\treturn o.WriteID\n",
		},
		{
			Name: "garbage-lease-blocks", Invariant: "lease", File: leaseFile, Plan: "./core/lease",
			Doc: "an object that is not a lease blocks forever",
			Old: "\t\t\ts, err = State{}, nil\n", New: "\t\t\ts = State{}\n",
		},
		{
			Name: "garbage-lease-overwritten", Invariant: "lease", File: leaseFile, Plan: "./core/lease",
			Doc: "a lease is taken by overwriting whatever is there now",
			Old: "\t\tcond = store.IfGen(o.Gen)\n\t}\n\tif err := l.swap.take", New: "\t\tcond = store.Always()\n\t}\n\tif err := l.swap.take",
		},
		{
			Name: "nested-within", Invariant: restorable, File: placeFile, Plan: "./core/takeover",
			Doc: "a database is made inside another one's prefix",
			Old: "\tfor _, above := range store.Above(st) {\n", New: "\tfor _, above := range store.Above(nil) {\n",
		},
		{
			Name: "nested-around", Invariant: restorable, File: placeFile, Plan: "./core/takeover",
			Doc: "a database is made around another one's prefix",
			Old: "\t\tcase stranger == \"\":\n", New: "\t\tcase stranger == \"\" && n < 0:\n",
		},
		{
			Name: "manifest-made-anew", Invariant: restorable, File: placeFile, Plan: "./core/takeover",
			Doc: "a lost manifest is replaced by a new database's",
			Old: "\t\tcase isOurs(a.Key):\n\t\t\treturn a.Key, stranger, nil\n", New: "\t\tcase isOurs(a.Key):\n",
		},
		{
			Name: "rival-is-a-lost-manifest", Invariant: "sound", File: placeFile, Plan: "./core/takeover",
			Doc: "a rival's new database is taken for one that has lost its manifest",
			Old: "\tcase err == nil:\n\t\treturn nil\n\tcase !errors.Is(err, store.ErrNotFound):\n\t\treturn err\n\tcase ours", New: "\tcase err != nil && !errors.Is(err, store.ErrNotFound):\n\t\treturn err\n\tcase ours",
		},
		{
			Name: "adopt-an-older-layer", Invariant: prefix, File: adoptFile, Plan: "./core/takeover",
			Doc: "a database continues from a layer although the log after it does not reach as far as a later one",
			Old: "\t\tif seq > s.a.To {\n", New: "\t\tif seq > s.a.To && s.st == nil {\n",
		},
		{
			Name: "adopt-beside-a-writer", Invariant: "lease", File: adoptFile, Plan: "./core/takeover",
			Doc: "an adoption does not wait for any lease",
			Old: "\tif err != nil {\n\t\treturn a, fmt.Errorf(\"adopt: %w\", err)\n\t}\n\tdefer func()", New: "\tif err != nil {\n\t\tl, err = lease.Acquire(ctx, lease.Options{Store: o.Store, Holder: o.Writer, TTL: o.LeaseTTL}, 0)\n\t}\n\tif err != nil {\n\t\treturn a, err\n\t}\n\tdefer func()",
		},
	}
}

// historyMutants break what is kept of earlier states.
func historyMutants() []Mutant {
	return []Mutant{
		{
			Name: "early-reading-believed", Invariant: prefix, File: "core/takeover/firstreading.go", Plan: "./core/takeover",
			Doc: "what was read before a long wait for the lease is restored as if nothing had been written since",
			Old: "op.beside != nil && !op.waited", New: "op.beside != nil",
		},
		{
			Name: "no-wait-is-told", Invariant: prefix, File: "core/lease/lease.go", Plan: "./core/lease",
			Doc: "an opening that waited for the lease is told that it did not",
			Old: "l.waited = !first", New: "l.waited = !first && false",
		},
		{
			Name: "retain-by-command-line", Invariant: restorable, File: publishFile, Plan: "./core/manifest",
			Doc: "retention follows what the last writer was given",
			Old: "\t\tretain, _ := m.Retain()\n", New: "\t\tretain := o.Retain\n",
		},
		{
			Name: "drops-what-is-being-read", Invariant: restorable, File: publishFile, Plan: "-run TestReplacedLayersStay ./core/manifest",
			Doc: "a layer goes as soon as it is replaced, even while an opening that took it for the newest is reading it",
			Old: "case i >= len(old)-recentLayers && now.Sub(replaced)", New: "case i < len(old)-recentLayers && now.Sub(replaced)",
		},
		{
			Name: "clock-ahead-keeps-all", Invariant: restorable, File: publishFile, Plan: "./core/manifest",
			Doc: "a layer taken while the clock was a year ahead keeps the log for a year",
			Old: "if !l.Taken.After(now) && !l.Taken.Before(latest) {", New: "if !l.Taken.Before(latest) {",
		},
		{
			Name: "clock-behind-drops-all", Invariant: restorable, File: publishFile, Plan: "./core/manifest",
			Doc: "a layer from a clock that was years behind counts as so old that everything before it may go",
			Old: "if !l.Taken.After(now) && !l.Taken.Before(latest) {", New: "if !l.Taken.After(now) || l.Taken.Before(latest) {",
		},
		{
			Name: "retain-forgotten", Invariant: restorable, File: retainFile, Plan: "./core/manifest",
			Doc: "a database of an earlier version drops its history",
			Old: "\tif len(m.Layers) < 2 {\n", New: "\tif len(m.Layers) >= 0 {\n",
		},
		{
			Name: "retain-fences", Invariant: "sound", File: retainFile, Plan: "./core/manifest",
			Doc: "setting what is kept makes a new epoch in the manifest, and fences the writer",
			Old: "Options{Epoch: seen.Epoch, Writer", New: "Options{Epoch: seen.Epoch + 1, Writer",
		},
		{
			Name: "newest-format-always", Invariant: "sound", File: manifestFile, Plan: "./core/manifest",
			Doc: "the previous version cannot open a database that does not need the newer format",
			Old: "= m.lowest(), u.o.Epoch", New: "= max(m.Format, Format), u.o.Epoch",
		},
		{
			Name: "old-format-refused", Invariant: "sound", File: manifestCode, Plan: "./core/takeover",
			Doc: "a database of the previous version does not open",
			Old: "case m.Format < 1 || m.Format > Format:", New: "case m.Format != Format:",
		},
	}
}

// listenerMutants break the PostgreSQL listener.
func listenerMutants() []Mutant {
	const startup, serve, client, pump, gate = "core/pgwire/startup.go", "core/pgwire/serve.go", "core/pgwire/client.go", "core/pgwire/pump.go", "core/pgwire/gate.go"
	return []Mutant{
		{
			Name: "halted-end-loses", Invariant: durable, File: "core/engine/mode_log.go", Plan: "./core/engine -run TestHalt",
			Doc: "what was acknowledged is not made durable at the end of an engine whose PostgreSQL was ended",
			Old: "\tif !abandon {\n", New: "\tif !abandon && !m.e.halted.Load() {\n",
		},
		{
			Name: "no-password", Invariant: promise, File: "core/pglite/hba.go", Plan: "./core/engine -run TestPassword",
			Doc: "with a password, initdb's rules stay, which let in everybody on this machine",
			Old: "if hba, err := c.files.data.ReadFile(\"/\" + hbaName); err != nil || !isInitial(hba) {", New: "if hba, err := c.files.data.ReadFile(\"/\" + hbaName); err != nil || isInitial(hba) {",
		},
		{
			Name: "rules-not-honoured", Invariant: promise, File: "core/pglite/hba.go", Plan: "./core/pglite -run TestRules",
			Doc: "a customized pg_hba.conf is not read",
			Old: "err != nil || !isInitial(hba) {", New: "err != nil && !isInitial(hba) {",
		},
		{
			Name: "password-at-each-wake", Invariant: promise, File: "core/engine/password.go", Plan: "./core/engine -run TestPassword",
			Doc: "each opening writes the superuser's password",
			Old: "err != nil || same {", New: "err != nil || same && err != nil {",
		},
		{
			Name: "reserved-for-all", Invariant: promise, File: serve, Plan: "./core/pgwire -run TestPlaces",
			Doc: "anybody can take the places reserved for superusers",
			Old: "Remote: c.raw.RemoteAddr(), Reserved: reserved}", New: "Remote: c.raw.RemoteAddr(), Reserved: reserved && packet == nil}",
		},
		{
			Name: "tls-not-required", Invariant: promise, File: startup, Plan: "./core/pgwire -run TestTLS",
			Doc: "a client without TLS is let in although TLS is required",
			Old: "if required && h.conn == raw {", New: "if required && h.conn != raw {",
		},
		{
			Name: "tls-of-anything", Invariant: promise, File: startup, Plan: "./core/pgwire -run TestDirectTLS",
			Doc: "TLS that begins without a request is accepted from a client that does not name its protocol",
			Old: "if direct && secure", New: "if !direct && secure",
		},
		{
			Name: "cancel-key-cut", Invariant: promise, File: serve, Plan: "./core/pgwire -run TestCancelIsPassedOn",
			Doc: "only as much of a cancel request's key is passed on as the first version of the protocol had",
			Old: "\t_, _ = backend.Write(packet)\n\tt :=", New: "\t_, _ = backend.Write(packet[:min(16, len(packet))])\n\tt :=",
		},
		{
			Name: "cancel-wakes", Invariant: promise, File: gate, Plan: "./core/pgwire -run TestCancelIsPassedOn",
			Doc: "a cancel request opens a database that has no clients",
			Old: "if len(g.places) == 0 {", New: "if len(g.places) < 0 {",
		},
		{
			Name: "fatal-within-a-message", Invariant: promise, File: client, Plan: "./core/pgwire -run TestFatal",
			Doc: "an error of the server's own arrives in the middle of a message",
			Old: "if c.frames.whole() && c.gone == nil {", New: "if c.gone == nil {",
		},
		{
			Name: "places-not-counted", Invariant: promise, File: gate, Plan: "./core/pgwire -run TestPlaces|TestEvery",
			Doc: "any number of clients gets a process",
			Old: "used < g.maxPlaces {", New: "used < g.maxPlaces || used >= g.maxPlaces {",
		},
		{
			Name: "silent-keep-out", Invariant: promise, File: gate, Plan: "./core/pgwire -run TestSilentPasswords",
			Doc: "a client that is asked for its password and stays silent keeps its place when others come",
			Old: "silent := oldest(g.places, func(a *arrival) bool { return a.asked })", New: "silent := oldest(g.places, func(a *arrival) bool { return a.asked && a.evicted })",
		},
		{
			Name: "password-at-once", Invariant: promise, File: pump, Plan: "./core/pgwire -run TestWrongPassword",
			Doc: "passwords may be tried as fast as they can be sent",
			Old: "\tif wrong {\n", New: "\tif wrong && first > 0 {\n",
		},
		{
			Name: "busy-are-cut", Invariant: promise, File: client, Plan: "./core/pgwire -run TestShutdown",
			Doc: "a running statement may not finish at the end of the server",
			Old: "case !c.in(stateActive):", New: "default:",
		},
		{
			Name: "vanished-run-on", Invariant: promise, File: pump, Plan: "./core/pgwire -run TestVanished",
			Doc: "a statement whose client has gone runs to its end, if it has one",
			Old: "\tc.backend.Terminate()\n\t<-c.backend.Done()\n", New: "\t<-c.backend.Done()\n",
		},
		{
			Name: "any-host", Invariant: promise, File: "core/httpapi/guard.go", Plan: "./core/httpapi -run TestWebPages",
			Doc: "a page whose name was made to resolve to this machine runs SQL",
			Old: "if !g.knowsHost(r) {", New: "if !g.knowsHost(r) && r.Host == \"\" {",
		},
		{
			Name: "any-origin", Invariant: promise, File: "core/httpapi/guard.go", Plan: "./core/httpapi -run TestWebPages",
			Doc: "a page of another origin is answered",
			Old: "g.cross.Check(&asked); err != nil {", New: "g.cross.Check(&asked); err != nil && r.Host == \"\" {",
		},
		{
			Name: "any-content-type", Invariant: promise, File: "core/httpapi/guard.go", Plan: "./core/httpapi -run TestWebPages",
			Doc: "a body without a type, as a page may send it without a preflight, is run",
			Old: "if len(given) != 1 {", New: "if len(given) == 0 {\n\t\treturn nil\n\t}\n\tif len(given) != 1 {",
		},
		{
			Name: "half-a-pair", Invariant: promise, File: "core/httpapi/text.go", Plan: "./core/httpapi -run Text",
			Doc: "half a surrogate pair becomes another character",
			Old: "case utf16.IsSurrogate(rune(unit)):", New: "case utf16.IsSurrogate(rune(unit)) && false:",
		},
	}
}

// recoveryMutants break what makes sure that PostgreSQL's own log is written and recovered to its end.
func recoveryMutants() []Mutant {
	return []Mutant{
		{
			Name: "layer-says-shut-down", Invariant: durable, File: "core/engine/compact.go", Plan: "-run TestNewDatabaseWithSettings ./core/engine",
			Doc: "the first layer of a database made with server parameters says that PostgreSQL was shut down",
			Old: "if err := inProduction(c.files); err != nil { // records follow it", New: "if err := error(nil); err != nil {",
		},
		{
			Name: "recovery-ends-early", Invariant: durable, File: "core/engine/recovery.go", Plan: "-run TestRecoveryEndsEarly ./core/engine",
			Doc: "how far PostgreSQL recovered is not compared with what the log holds",
			Old: "if to >= r.end || to == 0 && r.mild {", New: "if to >= r.end || to < r.end {",
		},
		{
			Name: "no-walwriter", Invariant: durable, File: "core/pglite/cluster.go", Plan: "-run TestAsynchronousCommits ./core/engine",
			Doc: "commits with synchronous_commit=off stay in PostgreSQL's buffers",
			Old: "if _, err := c.start(KindWalWriter); err != nil {", New: "if err := error(nil); err != nil {",
		},
	}
}

// failedTest finds the first failed test, or one that hung, in the output of `go test`; failedPackage a package whose tests ran and failed.
var (
	failedTest    = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|running tests:\s+(\S+)`)
	failedPackage = regexp.MustCompile(`(?m)^FAIL\t(\S+)\t\d`)
)

// caughtBy returns what failed, by the output of `go test`: a test, or "a crash of" a package's tests, where none could say so. Empty: the
// tests did not run.
func caughtBy(out []byte) string {
	if m := failedTest.FindSubmatch(out); m != nil {
		return string(m[1]) + string(m[2])
	}
	if m := failedPackage.FindSubmatch(out); m != nil {
		return "a crash of " + string(m[1])
	}
	return ""
}

// unitLimit bounds the tests of one package with a mutant in it: one that hangs counts as caught.
const unitLimit = "90s"

// RunUnit runs the tests named by Plan with the mutant in them: packages, or flags of `go test`. by is what caughtBy returns; empty: the
// mutant was not caught. A mutant that does not compile is an error.
func (m Mutant) RunUnit(ctx context.Context, root, dir string) (by string, err error) {
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return "", err
	}
	args := append([]string{"test", "-overlay", overlay, "-count=1", "-failfast", "-timeout", unitLimit}, strings.Fields(m.Plan)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	out, err := groupOutput(cmd)
	var exit *exec.ExitError
	if err == nil {
		return "", nil
	}
	if by := caughtBy(out); errors.As(err, &exit) && by != "" {
		return by, nil
	}
	return "", fmt.Errorf("mutant %s: go test: %w: %s", m.Name, err, bytes.TrimSpace(out[max(len(out)-2000, 0):]))
}
