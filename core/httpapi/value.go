package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

var types = pgtype.NewMap()

func columns(fields []pgconn.FieldDescription) []column {
	out := make([]column, len(fields))
	for i, f := range fields {
		out[i] = column{Name: f.Name, Type: "oid " + strconv.FormatUint(uint64(f.DataTypeOID), 10)}
		if t, ok := types.TypeForOID(f.DataTypeOID); ok {
			out[i].Type = t.Name
		}
	}
	return out
}

// row returns the last row read, as JSON values.
func row(r *pgconn.ResultReader) ([]json.RawMessage, error) {
	values, fields := r.Values(), r.FieldDescriptions()
	out := make([]json.RawMessage, len(values))
	for i, v := range values {
		if at := invalidUTF8(v); at >= 0 {
			return nil, &badValue{fields[i].Name, at, v[at]}
		}
		out[i] = value(v, fields[i].DataTypeOID)
	}
	return out, nil
}

// badValue is a value that is not valid UTF-8, which JSON cannot carry unchanged.
type badValue struct {
	column string
	at     int
	found  byte
}

func (b *badValue) Error() string {
	return fmt.Sprintf("column %q has text that is not UTF-8 (byte 0x%02x at offset %d): select it as bytea (convert_to(%s, 'SQL_ASCII'))", b.column, b.found, b.at, b.column)
}

// value returns PostgreSQL's text of a value as JSON.
func value(text []byte, oid uint32) json.RawMessage {
	if text == nil {
		return json.RawMessage("null")
	}
	switch oid {
	case pgtype.BoolOID:
		return json.RawMessage(strconv.FormatBool(string(text) == "t"))
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return bytes.Clone(text)
	case pgtype.Float4OID, pgtype.Float8OID:
		if f, err := strconv.ParseFloat(string(text), 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) && json.Valid(text) {
			return bytes.Clone(text)
		}
	case pgtype.JSONOID, pgtype.JSONBOID:
		if json.Valid(text) {
			return bytes.Clone(text)
		}
	}
	b, err := json.Marshal(string(text))
	if err != nil {
		return json.RawMessage("null") // cannot happen: any string can be encoded
	}
	return b
}
