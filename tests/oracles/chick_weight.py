"""A public data set on which clubSandwich prints CR2 results, and what it prints.

Data: body weights in grams of 50 chicks on four diets, on days 0, 2, …, 20 and 21 (Crowder and Hand 1990, Analysis of
Repeated Measures, example 5.3; `ChickWeight` in R). Results: reference pages of `coef_test` and `conf_int` of
clubSandwich 0.6 (Pustejovsky), model `weight ~ Diet * Time`, clusters = chicks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DAYS = (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21)

WEIGHTS_BY_DIET = {
    1: """
        42 51 59 64 76 93 106 125 149 171 199 205
        40 49 58 72 84 103 122 138 162 187 209 215
        43 39 55 67 84 99 115 138 163 187 198 202
        42 49 56 67 74 87 102 108 136 154 160 157
        41 42 48 60 79 106 141 164 197 199 220 223
        41 49 59 74 97 124 141 148 155 160 160 157
        41 49 57 71 89 112 146 174 218 250 288 305
        42 50 61 71 84 93 110 116 126 134 125
        42 51 59 68 85 96 90 92 93 100 100 98
        41 44 52 63 74 81 89 96 101 112 120 124
        43 51 63 84 112 139 168 177 182 184 181 175
        41 49 56 62 72 88 119 135 162 185 195 205
        41 48 53 60 65 67 71 70 71 81 91 96
        41 49 62 79 101 128 164 192 227 248 259 266
        41 49 56 64 68 68 67 68
        41 45 49 51 57 51 54
        42 51 61 72 83 89 98 103 113 123 133 142
        39 35
        43 48 55 62 65 71 82 88 106 120 144 157
        41 47 54 58 65 73 77 89 98 107 115 117
    """,
    2: """
        40 50 62 86 125 163 217 240 275 307 318 331
        41 55 64 77 90 95 108 111 131 148 164 167
        43 52 61 73 90 103 127 135 145 163 170 175
        42 52 58 74 66 68 70 71 72 72 76 74
        40 49 62 78 102 124 146 164 197 231 259 265
        42 48 57 74 93 114 136 147 169 205 236 251
        39 46 58 73 87 100 115 123 144 163 185 192
        39 46 58 73 92 114 145 156 184 207 212 233
        39 48 59 74 87 106 134 150 187 230 279 309
        42 48 59 72 85 98 115 122 143 151 157 150
    """,
    3: """
        42 53 62 73 85 102 123 138 170 204 235 256
        41 49 65 82 107 129 159 179 221 263 291 305
        39 50 63 77 96 111 137 144 151 146 156 147
        41 49 63 85 107 134 164 186 235 294 327 341
        41 53 64 87 123 158 201 238 287 332 361 373
        39 48 61 76 98 116 145 166 198 227 225 220
        41 48 56 68 80 83 103 112 135 157 169 178
        41 49 61 74 98 109 128 154 192 232 280 290
        42 50 61 78 89 109 130 146 170 214 250 272
        41 55 66 79 101 120 154 182 215 262 295 321
    """,
    4: """
        42 51 66 85 103 124 155 153 175 184 199 204
        42 49 63 84 103 126 160 174 204 234 269 281
        42 55 69 96 131 157 184 188 197 198 199 200
        42 51 65 86 103 118 127 138 145 146
        41 50 61 78 98 117 135 141 147 174 197 196
        40 52 62 82 101 120 144 156 173 210 231 238
        41 53 66 79 100 123 148 157 168 185 210 205
        39 50 62 80 104 125 154 170 222 261 303 322
        40 53 64 85 108 128 152 166 184 203 233 237
        41 54 67 84 105 122 155 175 205 234 264 264
    """,
}


@dataclass(frozen=True)
class Printed:
    """One printed row: estimate, standard error, degrees of freedom, p, and the 95 % and 99 % intervals."""

    diet: int
    estimate: float
    se: float
    df: float
    p: float
    low_95: float
    high_95: float
    low_99: float
    high_99: float


# Coefficients Diet2:Time, Diet3:Time, Diet4:Time
PRINTED = (
    Printed(2, 1.77, 1.49, 18.8, 0.2497, -1.349, 4.88, -2.4946, 6.03),
    Printed(3, 4.58, 1.35, 18.8, 0.0031, 1.751, 7.41, 0.7115, 8.45),
    Printed(4, 2.87, 1.01, 18.3, 0.0105, 0.757, 4.99, -0.0237, 5.77),
)


@dataclass(frozen=True)
class ChickWeight:
    """The table: one row per weighing."""

    weight: npt.NDArray[np.float64]
    day: npt.NDArray[np.float64]
    chick: npt.NDArray[np.int64]
    diet: npt.NDArray[np.int64]

    @property
    def design(self) -> npt.NDArray[np.float64]:
        """1, diet 2, 3, 4, day, and day within diet 2, 3, 4: `Diet * Time`."""
        diets = [(self.diet == k).astype(float) for k in (2, 3, 4)]
        return np.column_stack([np.ones(len(self.day)), *diets, self.day, *(column * self.day for column in diets)])


def load() -> ChickWeight:
    """Return the 578 weighings."""
    rows = []
    for diet, block in WEIGHTS_BY_DIET.items():
        for line in block.strip().splitlines():
            chick = 1 + max((row[2] for row in rows), default=0)
            rows += [(int(weight), day, chick, diet) for day, weight in zip(DAYS, line.split(), strict=False)]
    weight, day, chick, diet = (np.array(column) for column in zip(*rows, strict=True))
    return ChickWeight(weight.astype(float), day.astype(float), chick, diet)
