//! Colours that stay apart for colour-blind eyes, and in grey.

use plotters::style::RGBColor;

/// The sheet everything lies on.
pub const PAPER: RGBColor = RGBColor(253, 252, 250);
/// Titles.
pub const INK: RGBColor = RGBColor(38, 40, 43);
/// Labels of ticks, names of axes.
pub const FADED: RGBColor = RGBColor(98, 102, 108);
/// Lines of the grid.
pub const GRID: RGBColor = RGBColor(231, 230, 227);
/// Borders.
pub const EDGE: RGBColor = RGBColor(190, 190, 187);

/// The first of two: training; the negative class.
pub const BLUE: RGBColor = RGBColor(52, 104, 156);
/// The second of two: validation; the positive class.
pub const ORANGE: RGBColor = RGBColor(205, 102, 29);

/// Colours between which the rest is mixed, evenly spaced.
pub struct Map(&'static [RGBColor]);

/// From nothing to much, in blues.
pub const BLUES: Map = Map(&[
    RGBColor(248, 248, 246),
    RGBColor(211, 224, 236),
    RGBColor(150, 187, 217),
    RGBColor(82, 137, 186),
    RGBColor(30, 82, 134),
]);

/// From dark blue over green to yellow, even to the eye: Viridis, by Smith and van der Walt.
pub const VIRIDIS: Map = Map(&[
    RGBColor(68, 1, 84),
    RGBColor(72, 40, 120),
    RGBColor(62, 74, 137),
    RGBColor(49, 104, 142),
    RGBColor(38, 130, 142),
    RGBColor(31, 158, 137),
    RGBColor(53, 183, 121),
    RGBColor(109, 205, 89),
    RGBColor(180, 222, 44),
    RGBColor(253, 231, 37),
]);

/// From blue over white at the middle to orange.
pub const DIVERGING: Map = Map(&[
    RGBColor(38, 88, 140),
    RGBColor(116, 163, 204),
    RGBColor(193, 215, 232),
    RGBColor(249, 248, 245),
    RGBColor(247, 215, 182),
    RGBColor(231, 160, 96),
    RGBColor(184, 82, 16),
]);

impl Map {
    /// The colour at `t` of 0 to 1; what lies outside is taken to the nearer end.
    pub fn at(&self, t: f64) -> RGBColor {
        let place = t.clamp(0.0, 1.0) * (self.0.len() - 1) as f64;
        let below = (place as usize).min(self.0.len() - 2);
        mix(self.0[below], self.0[below + 1], place - below as f64)
    }
}

/// `from` with the share `t` of `to`.
pub fn mix(from: RGBColor, to: RGBColor, t: f64) -> RGBColor {
    let channel = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * t).round() as u8;
    RGBColor(channel(from.0, to.0), channel(from.1, to.1), channel(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_meet_their_colours() {
        for map in [BLUES, VIRIDIS, DIVERGING] {
            let last = map.0.len() - 1;
            for (i, &colour) in map.0.iter().enumerate() {
                assert_eq!(map.at(i as f64 / last as f64), colour);
            }
            assert_eq!((map.at(-1.0), map.at(9.0)), (map.0[0], map.0[last]));
        }
        assert_eq!(mix(RGBColor(0, 100, 0), RGBColor(100, 0, 0), 0.25), RGBColor(25, 75, 0));
    }
}
