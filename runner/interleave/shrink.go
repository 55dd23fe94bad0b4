package interleave

import "slices"

// maxShrink bounds how many schedules Shrink tries.
const maxShrink = 200

// Shrink removes actions as long as the rest still differs.
func Shrink(s Schedule, differs func(Schedule) (bool, error)) (Schedule, error) {
	tries := 0
	for i := 0; i < len(s) && len(s) > 1; {
		if tries++; tries > maxShrink {
			break
		}
		shorter := slices.Delete(slices.Clone(s), i, i+1)
		wrong, err := differs(shorter)
		switch {
		case err != nil:
			return s, err
		case wrong:
			s, i = shorter, 0
		default:
			i++
		}
	}
	return s, nil
}
